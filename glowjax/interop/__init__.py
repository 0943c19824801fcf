"""Bridges to other libraries: distrax, TensorFlow Probability, numpyro; and weights of others.

Each module has the name of the library that it is for; none is imported by the rest of glowjax.
"""
