"""The NVIDIA cards of this machine: what their driver says of them, and whether a build may be served on them."""
