"""Averages of other methods' members: soups, fused networks, and the forks that soups are made of."""
