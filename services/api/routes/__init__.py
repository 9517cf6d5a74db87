"""The HTTP and websocket routes, one module for each group."""
