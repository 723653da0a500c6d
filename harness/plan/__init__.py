"""Benchmark → graph of content-addressed tasks, and what it costs."""
