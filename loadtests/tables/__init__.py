"""The paper's tables, measured here: `python -m loadtests.tables`."""
