"""What runs inside Triton, and how it is made. Imports nothing of ours."""
