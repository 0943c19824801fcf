"""Continuous flows: solutions of ordinary differential equations."""
