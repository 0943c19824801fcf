"""Permutations of channels."""

import jax.numpy as jnp
import numpy as np
import pytest

import glowjax


@pytest.mark.parametrize("channels", [*range(2, 20), 64, 101])
def test_riffles_part_every_two_channels(channels):
    """In as many steps as the docstring says, and each channel is in both halves."""
    riffle = glowjax.as_flow(glowjax.Riffle())
    x, parted = jnp.arange(channels, dtype=float)[None], np.eye(channels, dtype=bool)
    were_second = np.zeros((0, channels), bool)
    for _ in range(int(np.ceil(np.log2(channels + 1))) + 1):
        second = np.zeros(channels, bool)
        second[np.asarray(x[0, channels // 2 :], int)] = True
        parted |= second[:, None] != second
        were_second = np.concatenate([were_second, second[None]])
        x, _ = riffle.forward({}, x)
    assert parted.all() and were_second.any(axis=0).all() and not were_second.all(axis=0).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9])
def test_a_riffle_has_an_inverse(channels):
    riffle = glowjax.as_flow(glowjax.Riffle())
    x = jnp.arange(2.0 * channels).reshape(2, channels)
    z, _ = riffle.forward({}, x)
    assert sorted(z[0].tolist()) == x[0].tolist()
    np.testing.assert_array_equal(riffle.inverse({}, z)[0], x)


def test_a_reversal_never_parts_what_is_in_one_half():
    """Why `Riffle` has the place of `Reverse` between couplings."""
    x = jnp.arange(4.0)[None]
    z, _ = glowjax.as_flow(glowjax.Reverse()).forward({}, x)
    assert {*np.asarray(z[0, 2:])} == {0.0, 1.0}
