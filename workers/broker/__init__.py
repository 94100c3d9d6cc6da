"""The broker: the Celery application, its queues, and the publisher of chunks."""
