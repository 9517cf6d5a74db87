"""Authentication: tokens, API keys, tickets, signed URLs."""
