"""Inference back ends: the clients of the servers that paint."""
