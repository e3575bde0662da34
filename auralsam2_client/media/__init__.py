"""Clips in: frames, the moments they show, and the sound that each of them hears. Needs no network and no server."""
