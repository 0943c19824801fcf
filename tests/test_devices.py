"""Gradients on several devices, by `pmap` and `shard_map`: those of the whole batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SMALL_MLP, SMALL_RESIDUAL, Case, coupling_step, data, parameters

import glowjax
from glowjax import as_flow

STEP = coupling_step(net=SMALL_MLP)
MORE = {
    "repeat_invert": Case(glowjax.repeat(STEP, 2, backprop="invert"), (3,), (), context=2),
    "residual_invert": Case(
        glowjax.repeat(as_flow(SMALL_RESIDUAL(depth=1)), 2, backprop="invert"), (2,), ()
    ),
    "residual_power_series": Case(as_flow(SMALL_RESIDUAL(log_det="power_series")), (3,), ()),
    "with_context": Case(
        glowjax.repeat(
            glowjax.chain(as_flow(glowjax.Planar()), glowjax.with_context(STEP, jnp.sin)),
            2,
            backprop="invert",
        ),
        (3,),
        (),
        context=2,
    ),
}
if "continuous" in CASES:
    from glowjax.bijections.ode.continuous import Continuous

    net = functools.partial(SMALL_MLP, depth=1, activation="silu")
    hutchinson = as_flow(Continuous(net, trace="hutchinson", rtol=1e-11, atol=1e-11))
    MORE["continuous_hutchinson"] = Case(hutchinson, (2,), ())
FLOWS = CASES | MORE
QUICK = {("forward", n) for n in ("residual", "continuous", "repeat_invert", "with_context")}
ALL = [(direction, name) for name in FLOWS for direction in ("forward", "inverse")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direction", "name"),
    [c if c in QUICK else pytest.param(*c, marks=pytest.mark.exhaustive) for c in ALL],
)
def test_gradients_are_those_of_the_whole_batch(direction, name):
    case, key = FLOWS[name], jax.random.key(3)
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("data",))
    params = jax.jit(lambda: parameters(case))()

    def loss(params, y, context=None):
        out, log_det = getattr(case.flow, direction)(params, y, context, key)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves((out, log_det)))

    inputs = data(case, batch=4)
    if direction == "inverse":
        inputs = jax.jit(case.flow.forward)(params, *inputs, key)[0], inputs[1]
    inputs = inputs[: 1 if inputs[1] is None else 2]
    slope = jax.grad(loss)
    halves = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), inputs)
    by_pmap = jax.pmap(slope, in_axes=(None, *[0] * len(inputs)))(params, *halves)
    specs = (jax.P(), *[jax.P("data")] * len(inputs))
    by_shard_map = jax.jit(jax.shard_map(slope, mesh=mesh, in_specs=specs, out_specs=jax.P()))
    whole = jax.jit(slope)

    def half(i):  # whose keys are the devices'
        return whole(params, *jax.tree.map(lambda a: a[i], halves))

    expected = jax.tree.map(jnp.add, half(0), half(1))
    summed = jax.tree.map(lambda a: jnp.sum(a, 0), by_pmap)
    for got in (summed, by_shard_map(params, *inputs)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.max(np.abs(b))),
            got,
            expected,
        )
