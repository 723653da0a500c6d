"""Events of a run, time measurement, provenance."""
