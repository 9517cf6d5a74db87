"""Fakes of the programs that paint, each with the shapes that a real one was recorded with in tests/transcripts."""
