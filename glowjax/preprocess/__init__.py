"""Bijections of data with a support, and of tables: densities then are of the data as they came.

    from glowjax import preprocess

    supports = preprocess.columns(preprocess.exp(), preprocess.sigmoid(0, 100), None)
    flow = glowjax.chain(supports, glowjax.maf())

All but `columns` have no parameters: params are `{}`. They are named after the map that makes data,
as distributions of the field are: `exp` is x = e^z, so that its `forward`, from data to latents, is
z = ln x. Outside of the support the log-determinant is −inf, and with it the log-probability, as
distributions have it; z stays finite there, and gradients too. `inverse` gives x in the support.
"""

from glowjax.preprocess.interval import sigmoid, tanh
from glowjax.preprocess.matrices import cholesky, correlation
from glowjax.preprocess.ordering import ordered
from glowjax.preprocess.positive import exp, power, softplus
from glowjax.preprocess.scaling import fixed_affine, standardized
from glowjax.preprocess.simplex import softmax_centered, stick_breaking
from glowjax.preprocess.spheres import sphere
from glowjax.preprocess.table import columns

__all__ = [
    "cholesky",
    "columns",
    "correlation",
    "exp",
    "fixed_affine",
    "ordered",
    "power",
    "sigmoid",
    "softmax_centered",
    "softplus",
    "sphere",
    "standardized",
    "stick_breaking",
    "tanh",
]
