"""What is done to trained weights: SAM2's own prompts are taught, lost statistics are estimated again."""
