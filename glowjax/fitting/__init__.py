"""Training of any density in one call."""
