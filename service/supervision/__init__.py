"""What keeps a server answering: it watches, asks, starts again, and tells how the service is."""
