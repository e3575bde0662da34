"""Errors of the network room: each names the value, the limit and the way out."""


class NetworkError(ValueError):
    """A preset, an input or a checkpoint that the network cannot work with."""


class CheckpointError(NetworkError):
    """A checkpoint whose keys or shapes do not fit the preset, or a file that cannot be read."""


class DataError(NetworkError):
    """A data set, or a file of one, that cannot be read as its layout says."""


class TrainingError(NetworkError):
    """A training run that cannot start, cannot go on, or was asked to resume another run's checkpoint."""
