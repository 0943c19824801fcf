"""Linear maps of channels, and the linear algebra that they need."""
