"""A build at rest: its manifest, its golden clip, its engines, and the cards that it is made for."""
