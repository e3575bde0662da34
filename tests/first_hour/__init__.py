"""The first hour of somebody new, played from a clone to a resumed training: `python -m tests.first_hour`."""
