"""The service that delivers webhooks."""
