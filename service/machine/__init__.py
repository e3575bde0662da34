"""What the machine gives a server, and what a server needs of it: open files, shared memory, room in the log."""
