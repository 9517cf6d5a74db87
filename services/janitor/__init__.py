"""Acts on timer ticks: purges old images, reconciles what faults left, sweeps drift."""
