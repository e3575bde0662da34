"""How a module computes on a device: captured, in lanes, two clips in flight; and how it fails."""
