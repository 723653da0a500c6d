"""Training: schedule, augmentation on the device, optimisers on flat vectors, the loop. Knows nothing of methods or files."""
