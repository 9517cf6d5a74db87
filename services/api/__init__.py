"""The HTTP and websocket edge: takes requests, publishes commands, shows events."""
