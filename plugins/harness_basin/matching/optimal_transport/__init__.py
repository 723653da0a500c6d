"""Greedy matching from the input to the output, by incoming weights."""
