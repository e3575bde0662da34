"""What differs in a build whose adapters bring the sound into the image features."""
