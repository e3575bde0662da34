"""What training learns from: clips of the procedural world or of a folder, and how they are varied."""
