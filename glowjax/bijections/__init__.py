"""Bijections, one a file: pure functions, then the Linen module that owns their parameters.

Besides them: what several need, such as linear algebra, roots and masks.
"""
