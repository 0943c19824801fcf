"""Conditioners: nets that know of no flow."""
