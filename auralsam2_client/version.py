"""The one place of the version: the package, `auralsam2 --version` and the metrics read it, the image is held to it."""

__version__ = "0.1.0"
