"""Weight matching of a pair and of an ensemble, one group of permutations at a time."""
