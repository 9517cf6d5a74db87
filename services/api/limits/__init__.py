"""The limits of an owner: admission and the headers that report it."""
