"""The real servers of the tests: given by URL, run by Docker, or installed on this machine."""
