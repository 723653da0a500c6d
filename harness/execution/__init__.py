"""Runs benchmarks: tasks, workers, engines, rows."""
