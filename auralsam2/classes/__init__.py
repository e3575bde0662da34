"""Semantic classes: what each thing that sounds is called, learned after the masks and kept in a file of its own."""
