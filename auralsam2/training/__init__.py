"""Training: a procedural audio-visual world, the paper's losses, and the loop that turns them into weights."""
