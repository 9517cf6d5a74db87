"""What wraps every request: problems, metrics, browser security."""
