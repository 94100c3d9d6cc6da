"""The local stack, worker processes, and checks of this machine."""
