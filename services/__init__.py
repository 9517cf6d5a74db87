"""The services of Darkroom; each can run alone, or all of them in one process."""
