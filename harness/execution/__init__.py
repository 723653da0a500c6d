"""Graph × engine × store → results: tasks, workers, engines, the run."""
