"""What Darkroom costs, measured against what it must do and what a user would otherwise take."""
