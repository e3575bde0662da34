"""What the service says of itself: events, each a line of text or JSON, on standard error and in files that rotate."""
