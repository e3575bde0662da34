"""Several clips on their way at once: how many, in which order they come back, and how all of it ends."""
