"""Several pictures as one zip file."""
