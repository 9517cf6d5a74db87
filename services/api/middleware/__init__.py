"""Checks of requests, reading of their input, answers to those that fail."""
