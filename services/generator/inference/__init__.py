"""Inference back ends: a port with one client for each kind of inference server."""
