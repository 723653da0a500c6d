"""Frank-Wolfe steps over relaxed permutations of all members (C2M3)."""
