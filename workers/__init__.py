"""The Celery application: from an object in the archive to a row in the ledger."""
