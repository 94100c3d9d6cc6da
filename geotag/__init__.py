"""The command line and composition root: the only package that imports all others."""
