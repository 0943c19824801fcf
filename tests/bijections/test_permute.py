"""Permutations of channels."""

import jax.numpy as jnp
import numpy as np
import pytest

import glowjax


@pytest.mark.parametrize("channels", [*range(2, 20), 64, 101])
def test_riffles_part_every_two_channels(channels):
    """In as many steps as the docstring says, each pair is in different halves at least once."""
    riffle = glowjax.as_flow(glowjax.Riffle())
    x, parted = jnp.arange(channels, dtype=float)[None], np.eye(channels, dtype=bool)
    for _ in range(int(np.ceil(np.log2(channels + 1)))):
        second = np.zeros(channels, bool)
        second[np.asarray(x[0, channels // 2 :], int)] = True
        parted |= second[:, None] != second
        x, _ = riffle.forward({}, x)
    assert parted.all()


def test_a_reversal_never_parts_what_is_in_one_half():
    """Why `Riffle` has the place of `Reverse` between couplings."""
    x = jnp.arange(4.0)[None]
    z, _ = glowjax.as_flow(glowjax.Reverse()).forward({}, x)
    assert {*np.asarray(z[0, 2:])} == {0.0, 1.0}
