"""What a CPU stage runs on: the engine, the stage's own logic, and the thin adapter to the server's python backend.

`export` copies this package beside every `1/model.py`, and the contract beside it, so that a filled repository needs
nothing of ours installed. It imports numpy, the contract and the CPU engine only, and its modules import each other
relatively, to work in both places.

Rooms, from the lowest: `engine` computes and says no; `admission` lets clips in and follows them; `prompts` reads what
a person marked and decodes it; here, `adapter` is the door to the server; `sessions` uses all of them, and `text` reads
beside the fuser.
"""
