"""The limits of an owner: admission, response headers."""
