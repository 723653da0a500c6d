"""Networks as one vector each: evaluation, interpolation, checks. Knows nothing of tasks or training."""
