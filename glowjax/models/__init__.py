"""Models: flows assembled of bijections and nets."""
