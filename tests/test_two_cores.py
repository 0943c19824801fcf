"""Nothing waits for ever on two CPU cores: docs/lapack-hang.md. Processes with a time limit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]

CHECKS = """
import jax.numpy as jnp
assert [a.shape for a in z] == [(8, 16, 16, 6), (8, 8, 8, 12), (8, 4, 4, 48)], z
assert log_det.shape == log_p.shape == (8,) and new.shape == (16, 32, 32, 3)
assert jnp.abs(x - images).max() < 1e-3
assert jnp.isfinite(log_p).all() and jnp.isfinite(new).all()
"""

GRADIENT = """
gradient = jax.jit(jax.grad(lambda p: model.log_prob(p, images).mean()))(params)
assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))
"""

SIDE_BY_SIDE = """
import jax
import jax.numpy as jnp
from glowjax import random_rotation_lu
from glowjax.bijections.linear import linalg
from glowjax.bijections.linear.factorizations import dense, lu_product
from glowjax.bijections.contraction import limit_spectral_norm

def draw(key):
    return random_rotation_lu(key, 48)

def slopes(matrices):
    def total(matrix):
        norm = limit_spectral_norm(matrix, 0.1)
        return sum(jnp.sum(a) for a in jax.tree.leaves((norm, dense(matrix), lu_product(matrix))))
    return jax.grad(lambda ms: jnp.sum(jax.vmap(total)(ms)))(matrices)

keys = jax.random.split(jax.random.key(0), (4, 8))
matrices = jax.jit(lambda keys: [jax.vmap(draw)(k) for k in keys])(keys)
many = jax.jit(lambda matrices: [slopes(m) for m in matrices])
for _ in range(3):
    jax.block_until_ready(many(matrices))
"""

PAIRING = """
import jax
import jax.numpy as jnp
from glowjax.densities.pairing import optimal_transport

def step(matrix, key):
    x, z = jax.random.normal(key, (2, 128, 64))
    z = optimal_transport(x, z @ matrix)
    return matrix + 1e-4 * x.T @ z / len(x), None

keys = jax.random.split(jax.random.key(0), (4, 20))
many = jax.jit(jax.vmap(lambda keys: jax.lax.scan(step, jnp.eye(64), keys)[0]))
for _ in range(3):
    jax.block_until_ready(many(keys))
"""


def ends_on_two_cores(script):
    """Two threads in XLA's pool, whatever the machine has."""
    settings = {"NPROC": "2", "XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    subprocess.run(
        [sys.executable, "-c", script], env=os.environ | settings, timeout=300, check=True
    )


@pytest.mark.slow
def test_factorizations_side_by_side_end():
    ends_on_two_cores(SIDE_BY_SIDE)


@pytest.mark.slow
def test_pairs_from_the_host_in_a_loop_end():
    ends_on_two_cores(PAIRING)


def example(size):
    full = "levels=3, steps=32, width=512"
    assert full in EXAMPLE
    return EXAMPLE.replace(full, size)


def test_readmes_example_ends_at_its_depth():
    ends_on_two_cores(example("levels=3, steps=32, width=8") + CHECKS)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "size",
    [
        "levels=3, steps=32, width=8",
        "levels=3, steps=32, width=8, mixing='conv1x1_lu'",
        "levels=3, steps=32, width=8, coupling='additive'",
        "levels=4, steps=48, width=8",
        "levels=5, steps=32, width=8, backprop='invert'",
    ],
)
def test_the_example_and_its_gradient_end(size):
    ends_on_two_cores(example(size) + "import jax.numpy as jnp" + GRADIENT)
