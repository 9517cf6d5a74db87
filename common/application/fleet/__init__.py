"""The running generators and what they can paint, as they announce it in the store."""
