"""Alignment of pre-norm transformers by rotations of the stream, maps within heads and permutations."""
