"""How fast a clip is on a CPU: the published implementation, our graphs, and the service, in turns within one run."""
