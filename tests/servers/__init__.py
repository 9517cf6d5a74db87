"""The real servers that tests run against: given by URL, by Docker, or from what this machine has installed."""
