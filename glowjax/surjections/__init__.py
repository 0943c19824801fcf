"""Surjections: maps of many to one, each with a distribution of what it maps to the same.

    from glowjax import surjections

    model = glowjax.density(glowjax.realnvp_mlp(), (3,))
    model = glowjax.generative_surjection(model, surjections.slicing(1))  # of data of 2 columns

Each can be used both ways, and `glowjax.Surjection` says how. Data that it maps have an exact
density, by `inference_surjection`. Data that it makes have a bound, by `generative_surjection`.
`mixed_density` is of tables with numbers and categories. `check_surjection` proves one of your own.
"""

from glowjax.surjections.absolute import absolute_value
from glowjax.surjections.augmentation import slicing
from glowjax.surjections.categories import argmax, argmax_forward, argmax_inverse
from glowjax.surjections.checking import check_surjection
from glowjax.surjections.mixed import mixed_density
from glowjax.surjections.order import sorting
from glowjax.surjections.pooling import max_pooling
from glowjax.surjections.quantized import rounding
from glowjax.surjections.table import columnwise

__all__ = [
    "absolute_value",
    "argmax",
    "argmax_forward",
    "argmax_inverse",
    "check_surjection",
    "columnwise",
    "max_pooling",
    "mixed_density",
    "rounding",
    "slicing",
    "sorting",
]
