"""What every process needs to run: clock, settings, logs, metrics, serving."""
