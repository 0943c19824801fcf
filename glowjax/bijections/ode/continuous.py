"""Continuous flows: solutions of an ordinary differential equation (Chen et al. 2018; FFJORD).

Needs diffrax, `pip install 'glowjax[continuous]'`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from glowjax.arrays import promote
from glowjax.bijections.ode.along import Costs, flow_along, flow_along_with_costs
from glowjax.bijections.ode.off_mesh import on_any_devices
from glowjax.checks import POSITIVE, check_choice, check_context, check_in, check_positive, require
from glowjax.context import as_at_init, net_inputs, net_takes_context
from glowjax.nets.layers import lecun_normal
from glowjax.nets.mlp import MLP

Trace = Literal["exact", "hutchinson"]


class Continuous(nn.Module):
    """z = x(1) with dx/dt = net(x, t, context) from x(0) = x, for `x: [B, ..., C]`.

    log_det = ∫ tr(∂net/∂x) dt over 0 … 1. The inverse goes from t = 1 back to 0 by the same solver.
    Data are at t = 0 and latents at t = 1; much of the literature has it the other way round.
    Errors are the tolerances times how far the flow stretches on the way: for a small net, outputs,
    round trips and log-dets were off by 1 tolerance where it stretches by 3, by 22 where by 35; and
    nothing came back where it stretches by 10²⁶.

    Attributes:
        net: makes the velocity, a Linen module, from `features` = C; it is called with x and, as
            its last feature, t, `[B, ..., C + 1]`, and with `context`. It must be smooth: ReLU's
            kinks make the trace jump, and cost the solver its accuracy. With a zero last layer the
            flow starts as the identity. Default, for `[B, C]`: `MLP` with tanh and LeCun's first
            weights, with which it learned better than with SiLU on five of seven sets of data.
        trace: `"exact"`: a derivative a step for each of the D numbers of an example, without a
            key; for low D. `"hutchinson"`: one, along a random probe of signs an example, the same
            over the whole solution: unbiased, up to the solver's error; the same key gives forward
            and inverse the same estimate.
        rtol, atol, max_steps: of the solver, as `flow_along` has them.

    Raises:
        ValueError: an attribute is not as above; `trace` needs a key.
        ImportError: diffrax is missing.

    Sources: Chen et al. 2018; Grathwohl et al. 2019 (FFJORD), section 3.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Continuous()), jnp.ones((4, 2))
        >>> z, log_det = jax.eval_shape(flow.forward, flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 2), (4,))
    """

    net: Callable[..., nn.Module] = functools.partial(
        MLP, activation="tanh", kernel_init=lecun_normal
    )
    trace: Trace = "exact"
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 4096

    @property
    def takes_context(self) -> bool:
        return net_takes_context(self.net)

    def forward(self, x, context=None) -> tuple[Array, Array]:
        return self._solve(x, context, 0.0, 1.0)

    def forward_with_costs(self, x, context=None) -> tuple[Array, Array, Costs]:
        """`forward` that also returns the `Costs` of each path, to keep them low in training.

        z, log_det, costs = flow.apply({"params": params}, x, method="forward_with_costs")
        """
        return self._solve(x, context, 0.0, 1.0, flow_along_with_costs)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        return self._solve(z, context, 1.0, 0.0)

    @nn.nowrap
    def velocity(self, params, x, t, context=None) -> Array:
        """dx/dt = net(x, t, context): what `flow_matching` and `path_in_steps` take.

        Args:
            params: of the flow.
            x: `[B, ..., C]`.
            t: the time of each x, `[B]`.
            context: of each x.

        Returns:
            Of the shape of x, in its units for one unit of time.

        Raises:
            ValueError: `params` are not the flow's own, or of other x and context; t is not `[B]`.
        """
        x = promote(x)
        require(isinstance(params, Mapping), "params", type(params).__name__, "the flow's, a dict")
        net = self.net(features=x.shape[-1], parent=None)  # a solver takes pure functions only
        inputs = net_inputs(net, _with_time(x, t), context)
        with as_at_init("Continuous", x=x, context=context):
            rate: Any = net.apply({"params": params.get("net", {})}, *inputs)
        return promote(rate)

    @nn.compact
    def _solve(self, x, context, start, stop, along=flow_along):
        x = promote(x)
        check_choice("trace", self.trace, ("exact", "hutchinson"))
        check_positive(max_steps=self.max_steps)
        check_context(context, x)
        check_in(POSITIVE, rtol=self.rtol, atol=self.atol)
        if self.is_initializing():
            net = self.net(features=x.shape[-1], name="net")
            net(*net_inputs(net, _with_time(x, jnp.full(len(x), start)), context))
        params = {"net": self.get_variable("params", "net", {})}
        x = x.astype(jnp.result_type(x, *jax.tree.leaves(params)))  # the solver keeps one dtype

        def solve(params, x, probes, context):
            def velocity(state, t):
                one = jax.tree.map(lambda a: a[None], (state.reshape(x.shape), context))
                return self.velocity(params, one[0], t[None], one[1]).ravel()

            z, *rest = along(
                velocity,
                x.ravel(),
                probes,
                start,
                stop,
                rtol=self.rtol,
                atol=self.atol,
                max_steps=self.max_steps,
            )
            return z.reshape(x.shape), *rest

        solve_all = jax.vmap(solve, in_axes=(None, 0, 0, 0))
        return on_any_devices(solve_all, params, x, self._probes(x), context)

    def _probes(self, x):
        size = math.prod(x.shape[1:])
        if self.trace == "exact":
            return jnp.broadcast_to(jnp.eye(size, dtype=x.dtype), (len(x), size, size))
        require(self.has_rng("log_det"), "key", None, "a JAX key, which trace='hutchinson' needs")
        return jax.random.rademacher(self.make_rng("log_det"), (len(x), 1, size), x.dtype)


def _with_time(x, t):
    """x with the time of each example as its last feature."""
    require(jnp.shape(t) == x.shape[:1], "t", jnp.shape(t), f"of shape ({len(x)},)")
    time = jnp.reshape(t, (-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(time, (*x.shape[:-1], 1))], axis=-1)
