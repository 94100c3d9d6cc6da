"""Working on a chunk: fetch, decode, infer, write; retries, leases and shutdown."""
