"""RealNVP: its net's promises, what alternates and what leaves, refusals."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_RESNET, Case, parameters
from weight_norm import conv

import glowjax
from glowjax import as_flow
from glowjax.testing import moved

TINY: Any = {"width": 3, "blocks": 1}


# ------------------------------------------------------------------------------------- net


@pytest.mark.slow
def test_weight_norm_sets_the_norm_of_each_output_channel():
    direction = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
    scale = jnp.asarray([0.5, 1.0, 2.0, -3.0])
    weight = glowjax.weight_norm(direction, scale)
    np.testing.assert_allclose(jnp.sum(weight**2, axis=(0, 1, 2)), scale**2, rtol=1e-12)
    stretched = glowjax.weight_norm(direction * jnp.asarray([2.0, 3.0, 4.0, 5.0]), scale)
    np.testing.assert_allclose(stretched, weight, rtol=1e-12)
    np.testing.assert_allclose(weight / direction * scale > 0, True)


@pytest.mark.slow
@pytest.mark.parametrize("context", [(2, 5), (2, 4, 4, 1), (2, 8, 8, 1)], ids=str)
def test_resnet_starts_as_zero_and_reads_its_context(context):
    net = SMALL_RESNET(3)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    context = jax.random.normal(jax.random.key(1), context)

    @jax.jit
    def measure(x, context):
        start, params = net.init_with_output(jax.random.key(2), x, context)
        params = moved(params, 0.3)
        return start, jax.grad(lambda c: jnp.sum(jnp.asarray(net.apply(params, x, c))[0]))(context)

    start, gradient = measure(x, context)
    np.testing.assert_array_equal(start, np.zeros((2, 4, 4, 3)))
    assert jnp.all(gradient[0] != 0)
    np.testing.assert_array_equal(gradient[1], jnp.zeros_like(gradient[1]))  # of the other example


@pytest.mark.slow
def test_resnet_without_context_is_the_formula():
    """Against a plain reading of its docstring, one product for each output number."""
    net = glowjax.ResNet(2, width=3, blocks=2)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 2))
    params = jax.jit(lambda x: moved(net.init(jax.random.key(1), x), 0.3))(x)
    y = np.asarray(net.apply(params, x))[0]

    p, relu = params["params"], functools.partial(np.maximum, 0)
    h = conv(p["conv"], np.asarray(x[0]))
    skips = conv(p["skip"], h)
    for i in range(2):
        block = jax.tree.map(lambda a, i=i: a[i], p["blocks"])
        h = h + conv(block["conv2"], relu(conv(block["conv1"], relu(h))))
        skips = skips + conv(block["skip"], h)
    np.testing.assert_allclose(y, conv(p["out"], relu(skips)), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.float32
def test_resnet_in_bfloat16_keeps_parameters_and_output_in_float32():
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 2))
    low, full = (glowjax.ResNet(4, width=8, blocks=2, dtype=d) for d in (jnp.bfloat16, None))

    @jax.jit
    def outputs(x):
        params = moved(low.init(jax.random.key(1), x), 0.1)
        gradient = jax.grad(lambda p: jnp.sum(jnp.asarray(low.apply(p, x))))(params)
        return params, gradient, low.apply(params, x), full.apply(params, x)

    params, gradient, y, exact = outputs(x)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradient))} == {jnp.dtype("float32")}
    assert y.dtype == jnp.float32
    assert 0 < jnp.max(jnp.abs(y - exact)) < 0.03 * jnp.max(jnp.abs(exact))


def test_resnet_refuses_other_contexts():
    net, x = SMALL_RESNET(3), jnp.ones((2, 4, 4, 2))
    for shape in ((3, 5), (2,), (2, 6, 6, 1), (2, 8, 4, 1), (2, 2, 2, 1), (3, 4, 4, 1)):
        with pytest.raises(ValueError, match=r"context must be floats of shape \(2, F\) or"):
            jax.eval_shape(net.init, jax.random.key(0), x, jnp.ones(shape))
    with pytest.raises(ValueError, match="context must be floats"):
        jax.eval_shape(net.init, jax.random.key(0), x, jnp.ones((2, 5), int))


# ------------------------------------------------------------------------------------ model


@pytest.mark.slow
def test_couplings_start_as_the_identity():
    x = jax.random.normal(jax.random.key(0), (2, 2, 4, 1))
    flow = as_flow(glowjax.AffineCoupling(SMALL_RESNET, "checkerboard", scale="tanh"))

    @jax.jit
    def start(x):
        return flow.forward(flow.init(jax.random.key(1), x), x)

    z, log_det = start(x)
    np.testing.assert_array_equal(z, x)
    np.testing.assert_array_equal(log_det, np.zeros(2))


@pytest.mark.slow
def test_realnvp_sends_half_of_each_level_out_and_doubles_the_width():
    flow = glowjax.realnvp(levels=3, width=4, blocks=1)
    x = jnp.zeros((2, 8, 16, 3))
    params = jax.eval_shape(flow.init, jax.random.key(0), x)
    (*latents, top), _ = jax.eval_shape(flow.forward, params, x)
    assert [z.shape for z in latents] == [(2, 4, 8, 6), (2, 2, 4, 12)]
    assert top.shape == (2, 2, 4, 12)

    def widths(level):
        found = jax.tree_util.tree_leaves_with_path(level)
        return [
            a.shape[-1] for path, a in found if "['conv']['bias']" in jax.tree_util.keystr(path)
        ]

    assert {
        f"{level} {part}": widths(weights)
        for level in ("level1", "level2", "level3")
        for part, weights in params[level].items()
        if part != "squeeze"
    } == {
        "level1 checkerboard": [4] * 3,
        "level1 channels": [8] * 3,
        "level2 checkerboard": [8] * 3,
        "level2 channels": [16] * 3,
        "level3 checkerboard": [16] * 4,
    }


@pytest.mark.slow
def test_single_scale_has_ten_couplings_and_keeps_the_shape():
    flow = glowjax.realnvp_single_scale(**TINY)
    x = jnp.zeros((2, 4, 6, 1))
    params = jax.eval_shape(flow.init, jax.random.key(0), x)
    assert {name: len(part) for name, part in params.items()} == {
        "checkerboard1": 4, "squeeze": 0, "channels": 3, "unsqueeze": 0, "checkerboard2": 3
    }  # fmt: skip
    assert jax.eval_shape(flow.forward, params, x)[0].shape == x.shape


@pytest.mark.exhaustive
def test_every_other_coupling_changes_the_other_colour():
    flow = glowjax.realnvp(levels=1, **TINY)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))

    @jax.jit
    def stages(x):
        params = moved(flow.init(jax.random.key(1), x), 0.3)["level1"]["checkerboard"]
        outputs = []
        for i, name in enumerate(f"step{number}" for number in range(1, len(params) + 1)):
            step = glowjax.realnvp_step(
                net=functools.partial(glowjax.ResNet, **TINY), mask="checkerboard", swap=i % 2 == 1
            )
            p = jax.tree.map(lambda a: a[0], params[name])
            h, _ = as_flow(glowjax.ActNorm()).forward(p["actnorm"], x)
            x, _ = step.forward(p, x)
            outputs.append((h, x))
        return outputs, flow.forward(moved(flow.init(jax.random.key(1), x0), 0.3), x0)[0][0]

    x0 = x
    outputs, z = stages(x)
    odd = (np.arange(4)[:, None] + np.arange(4)) % 2 == 1
    for i, (before, after) in enumerate(outputs):
        np.testing.assert_array_equal((before != after)[0, :, :, 0], ~odd if i % 2 else odd)
    np.testing.assert_allclose(outputs[-1][1], z, rtol=1e-12)  # the model is just these


@pytest.mark.slow
@pytest.mark.parametrize(
    "backprop, found",
    [
        pytest.param("recompute", 10, marks=pytest.mark.exhaustive),
        ("invert", 10),
        ("store", 0),
    ],
)
def test_backprop_is_of_each_coupling_by_itself(backprop, found):
    x = jnp.zeros((2, 4, 4, 1))
    for flow in (glowjax.realnvp, glowjax.realnvp_single_scale):
        model = flow(**TINY, backprop=backprop)
        params = jax.eval_shape(model.init, jax.random.key(0), x)
        program = str(jax.make_jaxpr(model.forward)(params, x))
        wrapped = re.findall(r"\b(?:checkpoint|remat2?|custom_vjp_call)\[\s", program)
        assert len(wrapped) == found


@pytest.mark.slow
def test_realnvp_mlp_integrates_to_one():
    flow = glowjax.realnvp_mlp(steps=2, width=4)
    model = glowjax.density(flow, (2,))
    grid, width = np.linspace(-15, 15, 301, retstep=True)
    x = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    @jax.jit
    def total(x):
        params = parameters(Case(flow, (2,), ()))
        return jnp.sum(jnp.exp(model.log_prob(params, x))) * width**2

    np.testing.assert_allclose(total(x), 1, atol=1e-3)


@pytest.mark.slow
def test_errors():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="levels must be a whole number"):
        glowjax.realnvp(levels=0)
    with pytest.raises(ValueError, match="blocks must be a whole number"):
        glowjax.realnvp_single_scale(blocks=0)
    with pytest.raises(ValueError, match="depth must be a whole number"):
        glowjax.realnvp_mlp(depth=0)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        glowjax.dequantization_flow(steps=0)
    for flow in (glowjax.realnvp(**TINY), glowjax.realnvp_single_scale(**TINY)):
        with pytest.raises(ValueError, match="height and width divisible by 2, got 3×4"):
            jax.eval_shape(flow.init, key, jnp.ones((2, 3, 4, 1)))
        with pytest.raises(ValueError, match="x must be images"):
            jax.eval_shape(flow.init, key, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="x must have at least 2 channels"):
        jax.eval_shape(glowjax.realnvp_mlp().init, key, jnp.ones((2, 1)))
