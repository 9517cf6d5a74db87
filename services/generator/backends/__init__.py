"""The back ends of one generator."""
