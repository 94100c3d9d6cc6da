"""Networks, decoder and releases for Triton. Imports none of our packages."""
