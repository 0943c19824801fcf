"""What the tests of flows on vectors share."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, parameters
from jax.extend.core import jaxprs_in_params

import glowjax


def integral_2d(flow, extent=9.0, points=241, noise=0.3):
    """The integral of the density of `flow`, with perturbed parameters, over a square."""
    model = glowjax.density(flow, (2,))
    grid, width = np.linspace(-extent, extent, points, retstep=True)
    x = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    @jax.jit
    def total(x):
        return jnp.sum(jnp.exp(model.log_prob(parameters(Case(flow, (2,), (), noise=noise)), x)))

    return total(x) * width**2


def program_size(f, *args):
    """The number of operations of a program, those inside loops counted once."""

    def count(jaxpr):
        inner = [count(j) for e in jaxpr.eqns for j in jaxprs_in_params(e.params)]
        return len(jaxpr.eqns) + sum(inner)

    return count(jax.make_jaxpr(f)(*args).jaxpr)


def check_start(flow, size):
    """At first the map moves points by less than 0.3, and every parameter has a gradient.

    Of every parameter one number or more at least 1e-4 of the largest: far above rounding.
    """
    x = jax.random.normal(jax.random.key(0), (64, size))

    @jax.jit
    def measure(x):
        params = flow.init(jax.random.key(1), x)

        def loss(params):
            z, log_det = flow.forward(params, x)
            return jnp.mean(jnp.sum(jnp.square(z - 1), axis=1) - log_det)

        return flow.forward(params, x)[0], jax.grad(loss)(params)

    z, gradient = measure(x)
    sizes = [jnp.max(jnp.abs(g)) for g in jax.tree.leaves(gradient)]
    assert 1e-4 < np.max(np.abs(z - x)) < 0.3
    assert min(sizes) > 1e-4 * max(sizes) > 0
