"""Webhooks: their destinations, bodies and deliveries on record."""
