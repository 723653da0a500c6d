"""Indices of array axes, and what may be done with them. Knows nothing of networks."""
