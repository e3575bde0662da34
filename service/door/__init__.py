"""The front door: nginx before the server's gRPC, which lets in what a client of ours needs and nothing else."""
