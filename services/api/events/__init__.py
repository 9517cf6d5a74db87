"""Live events: the reader of the event log and what it feeds."""
