"""What NVIDIA Triton Inference Server loads: one folder a model. Templates; `export` fills them into a build folder."""
