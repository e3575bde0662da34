"""The server process: its settings, which program runs and how, what starts and guards it, and when it is ready."""
