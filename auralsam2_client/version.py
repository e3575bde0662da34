"""The one place of the version. pyproject.toml, `auralsam2 --version` and the metrics read it; the changelog names it."""

VERSION = "0.1.0"
