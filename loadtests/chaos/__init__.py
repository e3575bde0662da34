"""Faults under load, one after the other in an order that a seed gives: what the service loses, and what it keeps."""
