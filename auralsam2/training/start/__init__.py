"""Where a run starts from: weights that were given, or initial ones and a pretraining."""
