"""Training: schedule, augmentation on the device, optimizers on flat vectors, the loop. Knows nothing of methods or files."""
