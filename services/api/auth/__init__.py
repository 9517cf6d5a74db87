"""Who calls: tokens, API keys, signed URLs."""
