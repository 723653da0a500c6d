"""What happens before anything else is imported: quiet interrupts, and a search path without the working folder."""
