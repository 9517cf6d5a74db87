"""What is built on several ports: the outbox, quotas, API keys, health."""
