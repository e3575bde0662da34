"""The server process: its settings, which program runs and how, what starts it, guards it and starts it again."""
