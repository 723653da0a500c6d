"""Networks as the harness needs them: one vector per network, evaluation, interpolation. Knows nothing of tasks or training."""
