"""What a CPU stage runs on: the engine, the stage's own logic, and the thin adapter to the server's python backend.

`export` copies this package beside every `1/model.py`, so that a filled repository needs nothing of ours installed.
It imports numpy and the CPU engine only, and its modules import each other relatively, to work in both places.
"""
