"""One module per kind of task: the computation, and what is stored."""
