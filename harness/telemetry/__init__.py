"""What a run says of itself: events, time, provenance."""
