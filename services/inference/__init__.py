"""The reference inference server: the HTTP contract, the port of what paints, a painter that needs no GPU."""
