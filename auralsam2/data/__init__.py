"""Data sets as they lie on disk, read one clip at a time."""
