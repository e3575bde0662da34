"""Interactive sessions: a clip's features that stay, rounds of prompts, caps and time-outs."""
