"""The services of Darkroom; each runs alone, and `embedded` runs them in one process."""
