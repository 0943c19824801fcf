"""Flow matching: trains the velocity of a continuous flow without solving its equation."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote, split_key, sum_event
from glowjax.checks import BELOW_ONE, check_choice, check_floats, check_in, require
from glowjax.densities.pairing import optimal_transport
from glowjax.densities.standardized import Standardized, standard

Pairing = Literal["independent", "optimal_transport"]


def flow_matching(
    velocity: Callable[..., jax.Array],
    params: Any,
    x: Float[AnyArray, "B *event"],
    key: jax.Array,
    *,
    context: Any = None,
    z: Float[AnyArray, "B *event"] | None = None,
    weights: Float[AnyArray, "B"] | None = None,
    pairing: Pairing = "independent",
    sigma_min: float = 0.0,
) -> Float[Array, ""]:
    """loss = mean of w·‖velocity(x_t, t) - (z - x)‖², x_t = (1 - t)·x + t·z, t ~ U(0, 1).

    Its minimum is the velocity E[z - x | x_t], whose flow takes data x at t = 0 to latents z at
    t = 1, as `Continuous` does; much of the literature has time the other way round. The loss is no
    likelihood, and is not 0 at its minimum. The density's `log_prob` gives the likelihood.

        flow = glowjax.Continuous()
        model = glowjax.density(glowjax.as_flow(flow), (2,))
        glowjax.fit(model, x, loss=lambda params, batch, key, step:
            glowjax.flow_matching(flow.velocity, params, batch.x, key))

    Args:
        velocity: `(params, x, t, context) -> [B, ...]`, such as that of `Continuous`.
        params: of the velocity, or these in `Standardized`: then x is in its units.
        x: `[B, ...]`, data, about as wide as the latents.
        key: of the times and the latents.
        context: of each x.
        z: `[B, ...]`, latents that go with x: draws of another base than the normal one; or, to
            rectify a flow, those of which x are its samples. Default: draws of N(0, I).
        weights: w of each x, `[B]`, of mean 1 over the data; default: 1.
        pairing: `"independent"`: z as they come. `"optimal_transport"`: in the order within the
            batch that makes the sum of ‖z - x‖² least, for straighter paths. It is exact for large
            batches. Context and weights are refused, since latents would depend on them.
        sigma_min: σ, at least 0 and below 1: the deviation of noise that is left on data. Then
            x_t = (1 - t)·x + (σ + (1 - σ)·t)·z, and the target is (1 - σ)·z - x.

    Returns:
        A scalar, in squared units of x.

    Raises:
        ValueError: an argument is not as above.

    Sources: Lipman et al. 2023, Flow matching for generative modeling, equation 23; Albergo &
    Vanden-Eijnden 2023; Liu et al. 2023, Flow straight and fast, equation 1 (rectified flows); Tong
    et al. 2024, section 3.4 (optimal transport); Cheng & Schwing 2025, The curse of conditions.

    Examples:
        >>> flow, x = glowjax.Continuous(), jnp.ones((4, 2))
        >>> params = glowjax.as_flow(flow).init(jax.random.key(0), x)
        >>> float(glowjax.flow_matching(flow.velocity, params, x, jax.random.key(1), z=x - 1))
        2.0
    """
    check_floats("x", x)
    check_choice("pairing", pairing, ("independent", "optimal_transport"))
    check_in(BELOW_ONE, sigma_min=sigma_min)
    if isinstance(params, Standardized):
        params, x = params.params, standard(params, x)
    x = promote(x)
    time_key, key = split_key(key)
    z = jax.random.normal(key, x.shape, x.dtype) if z is None else promote(z)
    require(z.shape == x.shape, "z", z.shape, f"of the shape of x, {x.shape}")
    if pairing == "optimal_transport":
        for name, given in (("context", context), ("weights", weights)):
            wanted = "None with pairing='optimal_transport', or latents would depend on it"
            require(given is None, name, "one", wanted)
        z = optimal_transport(x, z)

    t = jax.random.uniform(time_key, x.shape[:1], x.dtype)
    time = t.reshape(-1, *(1,) * (x.ndim - 1))
    noise = sigma_min + (1 - sigma_min) * time
    error = velocity(params, (1 - time) * x + noise * z, t, context) - ((1 - sigma_min) * z - x)
    squares = sum_event(jnp.square(error))
    if weights is None:
        return jnp.mean(squares)
    require(jnp.shape(weights) == t.shape, "weights", jnp.shape(weights), f"of shape {t.shape}")
    return jnp.mean(weights * squares)
