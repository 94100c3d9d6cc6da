"""Planning: from a listing, an inventory or a manifest to chunks in the ledger."""
