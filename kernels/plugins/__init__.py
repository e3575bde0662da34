"""The fused operators as plugins of TensorRT: chains of compiled kernels, their code, sizes and registration."""
