"""Whether the card computes what it should: kernels, network, service. `make test-gpu`, or without pytest
`python -m loadtests.gpu.checks`.
"""
