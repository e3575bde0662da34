"""How the fused operators run fast: Triton kernels beside their PyTorch forms, and what proves them. See README.md."""
