"""What must hold for every surjection, as one function: proves a surjection of one's own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.actnorm import trainable
from glowjax.densities.surjection import Surjection
from glowjax.testing import agree, cast, check_gradients, moved


def check_surjection(
    surjection: Surjection,
    w: Any,
    *,
    key: Any = None,
    noise: float = 0.1,
    draws: int = 2000,
    tolerance: float = 1e-9,
) -> None:
    """Proves that a surjection's draws become what they are drawn for, and follow its log_prob.

    In float64, with params that were moved by noise,

        project(draw(v)) = v, and draw's log_q is log_prob of the w that it drew
        an example does not depend on the others of its batch
        log_prob and its gradients are finite, and no gradient of params is 0 throughout
        q'/(q + q') has the same mean over draws of q as q/(q + q') over those of q', which has
        other params: draws follow log_prob, and the mass of q does not depend on params

    That this mass is 1 is for the author to prove, by an integral over w of q(w|project(w)) times a
    known density of v.

    Args:
        surjection: a `Surjection`.
        w: `[B, ...]`, where it is defined.
        key: of initialisation, noise and draws; default: `jax.random.key(0)`.
        noise: standard deviation of what params are moved by.
        draws: how many, for the means, of the first example.
        tolerance: in float64, relative above 1 and absolute below.

    Raises:
        AssertionError: names what does not hold.

    Examples:
        >>> surjections = glowjax.surjections
        >>> surjections.check_surjection(surjections.sorting(), jnp.array([[1.0, 3.0, 2.0]]))
    """
    key = jax.random.key(0) if key is None else key
    with jax.enable_x64(True):
        w = cast(w, np.float64)
        measured = jax.jit(functools.partial(_of_surjection, surjection, noise, draws))(key, w)
        claims = {
            "project(draw(v)) must be v": measured["projected"],
            "draw's log_q must be log_prob of the w that it drew": measured["log_q"],
            "an example must not depend on the others of its batch": measured["alone"],
        }
        for claim, pair in claims.items():
            agree(claim, *pair, tolerance)
        assert np.all(np.isfinite(measured["log_prob"])), "log_prob of w must be finite"
        check_gradients({"params": measured["gradients"]}, trainable(measured["params"]))
        means = np.mean(measured["shares"], axis=1)
        error = 1e-9 + np.linalg.norm(np.std(measured["shares"], axis=1)) / np.sqrt(draws)
        assert abs(means[0] - means[1]) < 5 * error, (
            "draws must follow log_prob, of one mass: the means of q'/(q + q') and q/(q + q') are"
            f" {means[0]:.4f} and {means[1]:.4f}, with an error of {error:.1g}"
        )


def _of_surjection(surjection, noise, draws, key, w) -> dict[str, Any]:
    """What `check_surjection` compares."""
    keys = jax.random.split(key, 3)
    params, other = (moved(surjection.init(keys[0], w), noise, seed) for seed in range(2))
    v = surjection.project(w)
    drawn, log_q = surjection.draw(params, keys[1], v)
    log_prob, pull = jax.vjp(lambda p: surjection.log_prob(p, drawn), params)
    first = jnp.broadcast_to(v[:1], (draws, *v.shape[1:]))
    shares = []
    for p, q in ((params, other), (other, params)):
        many, of_many = surjection.draw(p, keys[2], first)
        shares.append(jax.nn.sigmoid(surjection.log_prob(q, many) - of_many))
    return {
        "params": params,
        "projected": (surjection.project(drawn), v),
        "log_q": (log_q, log_prob),
        "alone": (surjection.log_prob(params, drawn[:1]), log_prob[:1]),
        "log_prob": surjection.log_prob(params, w),
        "gradients": pull(jnp.cos(jnp.arange(len(log_prob), dtype=log_prob.dtype)))[0],
        "shares": jnp.stack(shares),
    }
