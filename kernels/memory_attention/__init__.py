"""SAM2's memory cross-attention with rotary positions, one head: plain PyTorch, Triton kernels, launch plan."""
