"""Residual flows: the identity plus a contraction (Behrmann et al. 2019; Chen et al. 2019)."""

import math
from collections.abc import Callable
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer, Shaped

from glowjax.arrays import AnyArray, promote, sum_event, vary_as
from glowjax.bijections.contraction import (
    ACTIVATIONS,
    Activation,
    Contraction,
    contraction,
    limit_spectral_norm,
)
from glowjax.bijections.linear.linalg import inverse_and_log_abs_det
from glowjax.checks import Interval, check_choice, check_context, check_in, check_positive, require

LogDet = Literal["exact", "power_series", "roulette"]
Net = Literal["mlp", "dense"]
Map = Callable[[Float[Array, "B D"]], Float[Array, "B D"]]


def fixed_point(
    step: Map,
    start: Float[Array, "B D"],
    limit: int,
) -> Float[Array, "B D"]:
    """Applies `step` to `start: [B, D]` until no example moves by more than rounding.

    Of a contraction by c, the error after n steps is at most cⁿ times that of the start.

    Args:
        limit: the most steps.
    """
    eps = jnp.finfo(start.dtype).eps

    def size(x):
        return jnp.max(jnp.abs(x), axis=-1)

    def moves(state):
        x, before, n = state
        return jnp.any(size(x - before) > eps * (size(x) + size(start))) & (n < limit)

    def advance(state):
        x, _, n = state
        return step(x), x, n + 1

    return lax.while_loop(moves, advance, (step(start), start, 1))[0]


def steps_to_rounding(coefficient: float, dtype) -> int:
    """The n with coefficientⁿ <= the relative rounding error of `dtype`."""
    return math.ceil(math.log(jnp.finfo(dtype).eps) / math.log(coefficient))


def residual_inverse(
    g: Map,
    z: Float[AnyArray, "B D"],
    *,
    coefficient: float,
) -> Float[Array, "B D"]:
    """The x with x + g(x) = z, by iterating x ← z - g(x) from x = z.

    After n steps ‖x_n - x‖ <= coefficientⁿ·‖g(x)‖; it stops at rounding, which n = 152 steps reach
    at most in float32 and 343 in float64 for coefficient = 0.9. Rounding errors of g grow by up
    to 1/(1 - coefficient). Derivatives are those of the implicit function theorem,
    dx = (I + J)⁻¹(dz - dg), of which the linear system is solved by the same iteration.

    Args:
        g: `[B, D] -> [B, D]`, of Lipschitz constant at most coefficient < 1, example by example.
        z: `[B, D]`.

    Source: Behrmann et al. 2019, algorithm 1.
    """
    limit = steps_to_rounding(coefficient, z.dtype)

    def solve_linear(matvec, y):  # of I + J, or its transpose
        return fixed_point(lambda v: y + v - matvec(v), y, limit)

    return lax.custom_root(
        lambda x: x + g(x) - z,
        lax.stop_gradient(z),
        lambda f, z: fixed_point(lambda x: x - f(x), z, limit),
        lambda slope, y: lax.custom_linear_solve(slope, y, solve_linear, solve_linear),
    )


def residual_log_det(g: Map, x: Float[AnyArray, "B D"]) -> Float[Array, "B"]:
    """log_det = log|det(I + ∂g/∂x)|, `[B]`, in nats: exact, by D derivatives, in O(D³) each."""
    basis = jnp.eye(x.shape[-1], dtype=x.dtype)
    push = jax.linearize(g, x)[1]
    columns = jax.vmap(push)(vary_as(jnp.broadcast_to(basis[:, None], (len(basis), *x.shape)), x))
    return jax.vmap(inverse_and_log_abs_det)(basis + jnp.moveaxis(columns, 0, -1))[1]


def residual_log_det_series(
    g: Map,
    x: Float[AnyArray, "B D"],
    probe: Float[AnyArray, "B D"],
    count: Integer[AnyArray, ""] | int,
    weight: Callable[[Integer[Array, ""]], Shaped[Array, ""]] = jnp.ones_like,
) -> Float[Array, "B"]:
    """Σₖ₌₁ⁿ (-1)ᵏ⁺¹·weight(k)·vᵀJᵏv / k, `[B]`: an estimate of log|det(I + J)|, J = ∂g/∂x.

    With E[v·vᵀ] = I it is of expectation Σ (-1)ᵏ⁺¹·weight(k)·tr(Jᵏ) / k. The gradient is an
    estimate too: that of wᵀ·J·v with w = Σₖ (-1)ᵏ⁺¹·weight(k)·(Jᵀ)ᵏ⁻¹v held fixed, which has the
    gradient of that expectation as its own; it takes memory for one term, whatever `count`.
    Derivatives of second order are wrong.

    Args:
        g: `[B, D] -> [B, D]`, example by example.
        x: `[B, D]`.
        probe: v, `[B, D]`.
        count: n, which may be traced.
        weight: of a whole k, as an array.

    Source: Chen et al. 2019, theorems 1 and 2 (the Neumann series of the gradient).
    """
    chex.assert_equal_shape([x, probe])
    pure, captured = jax.closure_convert(g, x)
    _, pull = jax.vjp(lambda x: pure(x, *lax.stop_gradient(captured)), lax.stop_gradient(x))

    def add(k, state):
        u, total, w = state
        signed = weight(k).astype(x.dtype) * (1 - 2 * ((k + 1) % 2))
        w = w + signed * u
        (u,) = pull(u)
        return u, total + signed / k * sum_event(u * probe), w

    zeros = vary_as((jnp.zeros(x.shape[:1], x.dtype), jnp.zeros_like(x)), x)
    _, total, w = lax.fori_loop(1, count + 1, add, (probe, *zeros))
    slope = sum_event(w * jax.jvp(g, (x,), (probe,))[1])
    return total + slope - lax.stop_gradient(slope)


class Residual(nn.Module):
    """z = x + g(x) for `x: [B, D]`, with g a net of Lipschitz constant at most coefficient < 1.

    Each weight is divided by its exact spectral norm where that is above its bound, and activations
    have slopes of at most 1, so that the bound holds for all parameters. The inverse is
    `residual_inverse`, exact to rounding.

    Attributes:
        width, depth: of the hidden layers.
        coefficient: the bound c on the Lipschitz constant.
        net: `"mlp"`, whose depth + 1 weights each have the bound c^(1 / (depth + 1)). `"dense"`,
            an i-DenseNet: each hidden layer appends its outputs to its inputs, so that the last
            layer, which alone has a bound below 1, sees x and all of them.
        activation: `"lipswish"`, `"clipswish"` or `"sine"`, see `contraction`.
        log_det: `"exact"`: D derivatives and a determinant an example, without a key; for low D.
            `"power_series"`: `terms` terms with a random probe of signs an example; its
            expectation is off by at most D·cⁿ⁺¹ / ((n + 1)(1 - c)), n = terms.
            `"roulette"`: `terms` terms, then N more with P(N >= m) = cᵐ, each divided by that
            probability, so that it is unbiased (to 1e-7, the resolution of the random numbers, in
            float32), and no term grows with k. N is drawn once for a batch: c / (1 - c) terms on
            average. Of both estimates gradients are of first order only; the same key gives
            forward and inverse the same estimate.
        terms: of the series, always computed, at one vector-Jacobian product each.

    A float `context: [B, F]` is appended to g's input; it does not count for the bound.

    Raises:
        ValueError: an attribute is not as above; x is not `[B, D]`; `context` does not fit; no key
            for an estimated log-determinant.

    Sources: Behrmann et al. 2019 (i-ResNet), sections 2 and 3; Chen et al. 2019, section 3;
    Perugachi-Diaz et al. 2021, Invertible DenseNets with concatenated LipSwish.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Residual(width=8, depth=1)), jnp.ones((4, 2))
        >>> params = jax.jit(flow.init)(jax.random.key(0), x)
        >>> z, log_det = jax.jit(flow.forward)(params, x)
        >>> z.shape, log_det.shape
        ((4, 2), (4,))
    """

    width: int = 64
    depth: int = 2
    coefficient: float = 0.9
    log_det: LogDet = "exact"
    terms: int = 10
    net: Net = "mlp"
    activation: Activation = "lipswish"

    def forward(self, x, context=None) -> tuple[Array, Array]:
        x, g = self._contraction(promote(x), context)
        return x + g(x), self._log_det(g, x)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        z, g = self._contraction(promote(z), context)
        x = residual_inverse(g, z, coefficient=self.coefficient)
        return x, -self._log_det(g, x)

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        return {"prepared": {"net": self._contraction_of(params)}}

    @nn.nowrap
    def _contraction_of(self, params):
        hidden = 1.0 if self.net == "dense" else self.coefficient ** (1 / (self.depth + 1))
        bounds = [hidden] * self.depth + [self.coefficient / hidden**self.depth]

        def numbered(name, n):
            return tuple(params[f"{name}{i}"] for i in range(1, n + 1))

        weights = zip(numbered("weight", self.depth + 1), bounds, strict=True)
        return Contraction(
            tuple(limit_spectral_norm(jnp.asarray(weight), bound) for weight, bound in weights),
            numbered("bias", self.depth + 1),
            numbered("slope", self.depth),
            params.get("context"),
            numbered("share", self.depth) if self.net == "dense" else (),
        )

    def _contraction(self, x, context):
        check_positive(width=self.width, depth=self.depth, terms=self.terms)
        check_choice("log_det", self.log_det, ("exact", "power_series", "roulette"))
        check_choice("net", self.net, ("mlp", "dense"))
        check_choice("activation", self.activation, ACTIVATIONS)
        check_in(Interval(0, 1), coefficient=self.coefficient)
        require(x.ndim == 2, "x", x.shape, "of shape [B, D]")
        net = self._net(x, context)
        x = x.astype(jnp.result_type(x, *net.weights))  # the inverse's loop keeps one dtype
        return x, lambda x: contraction(x, net, context, activation=self.activation)

    @nn.compact
    def _net(self, x, context):
        prepared = self.get_variable("prepared", "net")
        if prepared is not None:
            return prepared
        draw, zeros, dtype = nn.initializers.lecun_normal(), nn.initializers.zeros, x.dtype
        params, inputs = {}, x.shape[-1]
        for i in range(1, self.depth + 2):
            outputs = self.width if i <= self.depth else x.shape[-1]
            params[f"weight{i}"] = self.param(f"weight{i}", draw, (inputs, outputs), dtype)
            params[f"bias{i}"] = self.param(f"bias{i}", zeros, (outputs,), dtype)
            if i <= self.depth:
                half = nn.initializers.constant(0.5)  # as in the released Residual Flows
                params[f"slope{i}"] = self.param(f"slope{i}", half, (), dtype)
                if self.net == "dense":
                    params[f"share{i}"] = self.param(f"share{i}", zeros, (), dtype)
            outputs *= ACTIVATIONS[self.activation].outputs
            inputs = inputs + outputs if self.net == "dense" else outputs
        if self.is_initializing() and context is not None:
            check_context(context, x)
            self.param("context", draw, (context.shape[-1], self.width), dtype)
        params["context"] = self.get_variable("params", "context")
        return self._contraction_of(params)

    def _log_det(self, g, x):
        if self.log_det == "exact":
            return residual_log_det(g, x)
        given = self.has_rng("log_det")
        require(given, "key", None, f"a JAX key, which log_det={self.log_det!r} needs")
        probe_key, count_key = jax.random.split(self.make_rng("log_det"))
        probe = vary_as(jax.random.rademacher(probe_key, x.shape, x.dtype), x)
        if self.log_det == "power_series":
            return residual_log_det_series(g, x, probe, self.terms)
        rate = -math.log(self.coefficient)
        extra = jnp.floor(jax.random.exponential(count_key, (), x.dtype) / rate).astype(int)

        def weight(k):  # 1 / P(k is computed)
            return jnp.exp(rate * jnp.maximum(k - self.terms, 0))

        return residual_log_det_series(g, x, probe, self.terms + extra, weight)
