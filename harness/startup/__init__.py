"""What concerns the process alone: quiet interrupts, a search path without the working folder, pauses of garbage collection."""
