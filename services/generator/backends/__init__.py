"""The back ends of one generator: what the operator configured, what each offers, and which of them gets an image."""
