"""A build folder, filled: the model repository that a server loads, its manifest and its golden clip."""
