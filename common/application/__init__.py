"""Components built on several ports: outbox, quotas, API keys, health."""
