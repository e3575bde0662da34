"""What lets a graph into a build: its answers, read back from disk, against the network's."""
