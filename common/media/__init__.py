"""The storage of picture files: a port with an adapter for plain files."""
