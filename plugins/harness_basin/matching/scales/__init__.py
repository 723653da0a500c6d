"""Alignment by positive scales of units, alone and with permutations."""
