"""Start the system: the servers and workers that the other packages talk to."""
