"""Permutations learned through Sinkhorn's normalization, and soft maps."""
