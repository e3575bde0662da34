"""SAM2's own prompts: read off the wire, decoded on a clip's features, combined with what the sound found."""
