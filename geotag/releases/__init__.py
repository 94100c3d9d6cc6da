"""Releases in the ledger and in Triton: register, activate, roll back."""
