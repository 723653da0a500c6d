"""Symmetry groups beside permutations: scales, invertible maps, rotations; their derivation and their check."""
