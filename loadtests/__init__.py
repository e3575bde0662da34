"""How fast and how steady the service is. For now: what serving costs over the engine calls themselves."""
