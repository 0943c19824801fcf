"""The logit by hand, its digits at both ends, and its domain."""

import jax.numpy as jnp
import numpy as np
import pytest

from glowjax import Logit, as_flow, bin_centres, logit_forward, logit_inverse, quantize


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_by_hand(alpha):
    x = np.linspace(-0.45, 0.45, 12).reshape(2, 2, 3)
    y = alpha + (1 - 2 * alpha) * (x + 0.5)
    z, log_det = logit_forward(jnp.asarray(x), alpha)
    np.testing.assert_allclose(z, np.log(y / (1 - y)), rtol=1e-12)
    slope = (1 - 2 * alpha) / (y * (1 - y))
    np.testing.assert_allclose(log_det, np.log(slope).sum((1, 2)), rtol=1e-12)
    back, inverse_log_det = logit_inverse(z, alpha)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-12)


@pytest.mark.float32
@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_all_grey_levels_come_back(alpha):
    images = np.arange(256, dtype=np.uint8)[None]
    z, _ = logit_forward(bin_centres(images), alpha)
    np.testing.assert_array_equal(quantize(logit_inverse(z, alpha)[0]), images)


@pytest.mark.float32
def test_digits_are_kept_at_both_ends():
    ends = np.array([[-0.5 + 2.0**-23, 0.5 - 2.0**-23]], np.float32)
    z, _ = logit_forward(jnp.asarray(ends))
    exact = np.log(2.0**-23) - np.log1p(-(2.0**-23))
    np.testing.assert_allclose(z, [[exact, -exact]], rtol=1e-6)


def test_beyond_the_interval_is_nan():
    z, _ = logit_forward(jnp.array([[-0.6, 0.6]]))
    assert jnp.all(jnp.isnan(z))


def test_bad_alpha_is_refused():
    for alpha in (-0.1, 0.5):
        with pytest.raises(ValueError, match=r"alpha must be in \[0, 0.5\)"):
            as_flow(Logit(alpha))
