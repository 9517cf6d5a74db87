"""The janitor: purges old images, reconciles records after faults, sweeps files without a record."""
