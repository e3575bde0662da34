"""The card and its times: events, the profiler, graphs, what the card itself can do."""
