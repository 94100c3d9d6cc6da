"""The command line: the composition root, the only package that imports all the others."""
