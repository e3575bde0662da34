"""The way in: which clips a server takes on, how each passes a stage, and what is counted of it."""
