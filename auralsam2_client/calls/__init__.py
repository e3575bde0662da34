"""One clip to the server and back: the blocking client, the one for asyncio, sessions, and the wire below them."""
