"""The reference inference server: an HTTP interface over an engine, with a stand-in engine that needs no GPU."""
