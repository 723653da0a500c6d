"""Plans a benchmark: the graph of its content-addressed tasks, and their cost."""
