"""Networks that train at the same time, tied by a coupling."""
