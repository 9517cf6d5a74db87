"""The commands about images of a running server."""
