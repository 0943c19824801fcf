"""Measurements of speed, compile time and exactness: `python -m experiments.bench --help`."""
