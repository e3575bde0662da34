"""The run itself: steps on examples, on all workers, from a start to weights."""
