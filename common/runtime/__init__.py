"""What every process needs to run, below the ports."""
