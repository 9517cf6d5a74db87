"""Inference back ends: a port, and a client for each kind of inference server."""
