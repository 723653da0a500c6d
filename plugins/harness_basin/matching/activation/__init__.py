"""Where units stand in a network's activations, and matching by what is read there."""
