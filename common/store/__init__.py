"""The record store: one port, an adapter on SQLite and one on MongoDB."""
