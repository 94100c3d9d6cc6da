"""Training a network, and labelling scenes for it."""
