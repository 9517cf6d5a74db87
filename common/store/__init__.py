"""The record store: a port with adapters for SQLite and MongoDB."""
