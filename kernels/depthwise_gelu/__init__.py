"""Depth-wise 3 x 3 convolution, bias and GELU of a PVT block's hidden tokens: PyTorch, Triton kernel, launch plan."""
