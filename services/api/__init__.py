"""The api: REST routes, websockets, web pages."""
