"""Commands that list failed objects and retry them."""
