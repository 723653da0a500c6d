"""What operations do to the indices of their arguments: one rule per operation."""
