"""The network as a whole: its parts put together, and every way to weights for it."""
