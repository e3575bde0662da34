"""Calls on their way: the time that each has, how many at once, in which order they come back, how all of it ends."""
