"""What a CPU stage runs on: the engine, the stage's own logic, and the thin adapter to the server's python backend.

`export` copies this package beside every `1/model.py`, and the contract beside it, so that a filled repository needs
nothing of ours installed. It imports numpy, the contract and the CPU engine only, and its modules import each other
relatively, to work in both places.

The engine room lies here at the top: `engine` and `stage` compute, `adapter` is the door to the server, `refusals` is
how it says no. Behind the door are three rooms: `admission`, `prompts`, and `sessions`, which uses all others.
"""
