"""One module per kind of task: what is done for it, and what is stored."""
