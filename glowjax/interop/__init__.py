"""Bridges to other libraries: distrax, TensorFlow Probability, numpyro.

Each module imports the library it is named after; none is imported by the rest of glowjax.
"""
