"""Reading S3: which services, with which credential, and what their answers mean."""
