"""What a person runs: start the server, send a clip, look at the masks. Imports neither torch nor the network."""
