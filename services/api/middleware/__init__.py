"""How requests are checked, read, counted, and answered if they fail."""
