"""The two-way audio-visual fusion of one stage: reference, low-rank form in PyTorch, Triton kernels, launch plan."""
