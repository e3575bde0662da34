"""Errors of the network room: each names the value, the limit and the way out."""


class NetworkError(ValueError):
    """A preset, an input or a checkpoint that the network cannot work with."""


class CheckpointError(NetworkError):
    """A checkpoint whose keys or shapes do not fit the preset, or a file that cannot be read."""
