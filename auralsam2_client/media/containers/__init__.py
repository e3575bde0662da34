"""What a media file holds: its packets on one clock, its tracks, and how its pictures are to be shown."""
