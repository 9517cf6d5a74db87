"""The janitor: it purges old images, reconciles records after faults, and sweeps files that have no record."""
