"""Groups of commands; like `geotag/cli.py` they import what they need when they run."""
