"""Links to one picture that work without an account."""
