"""How the fused operators run fast. For now the PyTorch references that every kernel will be compared with."""
