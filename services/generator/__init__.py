"""Takes commands, has the inference service paint, and keeps what it painted."""
