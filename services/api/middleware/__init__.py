"""What every request passes through: metrics, problems, browser security, reading of its input."""
