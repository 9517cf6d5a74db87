"""The parts that stand on several ports: outbox, quotas, API keys, health."""
