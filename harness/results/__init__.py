"""Results of runs as files: rows, `run.json`, warnings about degenerate ensembles."""
