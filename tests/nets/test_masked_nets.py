"""MADE and PixelCNN: each output depends on all inputs before it, and on no other."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax.nets import made, pixelcnn

MADE = functools.partial(glowjax.MADE, 2, width=7)
PIXELCNN = functools.partial(glowjax.PixelCNN, 2, width=5)
NETS = {  # a net, an event's shape, the numbers of its context
    "natural": (MADE(), (6,), 0),
    "reversed": (MADE(order="reversed"), (6,), 0),
    "random": (MADE(order=4), (6,), 3),
    "narrow": (MADE(width=2, depth=1), (6,), 1),
    "direct": (MADE(depth=0), (6,), 1),
    "residual": (MADE(residual=True, activation="tanh"), (6,), 1),
    "two numbers": (MADE(), (2,), 0),
    "one number": (MADE(), (1,), 2),
    "images": (PIXELCNN(depth=2), (2, 3, 3), 0),
    "images in context": (PIXELCNN(depth=2), (2, 3, 2), 2),
    "grey images": (PIXELCNN(depth=1, kernel=7), (3, 4, 1), 0),
}


def jacobians(net, shape, features=0):
    """∂output/∂input, `[D, features, D]`, and ∂output/∂context, with every parameter drawn."""
    event = jax.random.normal(jax.random.key(0), shape)
    context = jax.random.normal(jax.random.key(1), (features,)) if features else None

    @jax.jit
    def measure(event, context):
        params = net.init(
            jax.random.key(2), event[None], None if context is None else context[None]
        )
        leaves, structure = jax.tree.flatten(params)
        keys = structure.unflatten(list(jax.random.split(jax.random.key(3), len(leaves))))
        params = jax.tree.map(
            lambda p, k: 0.5 * jax.random.normal(k, p.shape, p.dtype), params, keys
        )

        def outputs(event, context):
            context = None if context is None else context[None]
            return net.apply(params, event[None], context).reshape(event.size, net.features)

        by_event = jax.jacrev(outputs)(event, context).reshape(event.size, net.features, event.size)
        return by_event, None if context is None else jax.jacrev(outputs, 1)(event, context)

    return measure(event, context)


def check_causal_and_dense(net, shape, features):
    """Raises `AssertionError` unless outputs depend on exactly what is before them."""
    by_event, by_context = jacobians(net, shape, features)
    order = net.ordering(shape)
    sorted_jacobian = np.asarray(by_event)[order][:, :, order]
    before = np.tri(len(order), k=-1, dtype=bool)
    np.testing.assert_array_equal(sorted_jacobian != 0, np.repeat(before[:, None], 2, axis=1))
    assert by_context is None or np.all(by_context != 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_outputs_depend_on_exactly_what_is_before_them(name):
    check_causal_and_dense(*NETS[name])


# Mutants: wrong masks, a wrong order and wrong shifts, each of which the test above must catch.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["natural", "images in context"])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda inputs, outputs: inputs[:, None] <= outputs + 1,
        lambda inputs, outputs: inputs[:, None] < outputs,
        lambda inputs, outputs: inputs[:, None] >= outputs,
        lambda inputs, outputs: np.ones((len(inputs), len(outputs)), bool),
    ],
    ids=["leaks", "loses", "backwards", "none"],
)
def test_wrong_masks_are_caught(wrong, name, monkeypatch):
    monkeypatch.setattr(made, "mask", wrong)
    monkeypatch.setattr(pixelcnn, "mask", wrong)
    with pytest.raises(AssertionError):
        check_causal_and_dense(*NETS[name])


@pytest.mark.slow
def test_a_wrong_order_is_caught(monkeypatch):
    net, *rest = NETS["random"]
    # NumPy as this module alone sees it: JAX sorts with NumPy too.
    unsorted = types.SimpleNamespace(**{**vars(np), "argsort": lambda order: order})
    monkeypatch.setattr(made, "np", unsorted)
    with pytest.raises(AssertionError):
        check_causal_and_dense(net, *rest)


@pytest.mark.slow
@pytest.mark.parametrize("down, right", [(0, 1), (1, 0), (2, 1)])
def test_wrong_shifts_are_caught(down, right, monkeypatch):
    shift = pixelcnn._shift

    def wrong(x, **by):
        return shift(
            x, **{axis: n * {"down": down, "right": right}[axis] for axis, n in by.items()}
        )

    monkeypatch.setattr(pixelcnn, "_shift", wrong)
    with pytest.raises(AssertionError):
        check_causal_and_dense(*NETS["images in context"])


# ------------------------------------------------------------------------------------- the nets


def test_orders():
    np.testing.assert_array_equal(MADE().ordering((4,)), [0, 1, 2, 3])
    np.testing.assert_array_equal(MADE(order="reversed").ordering((4,)), [3, 2, 1, 0])
    random = MADE(order=0).ordering((10,))
    np.testing.assert_array_equal(np.sort(random), np.arange(10))
    np.testing.assert_array_equal(random, [2, 8, 4, 9, 1, 6, 7, 3, 0, 5])  # of every release
    np.testing.assert_array_equal(PIXELCNN().ordering((2, 3, 2)), np.arange(12))


@pytest.mark.slow
def test_pixelcnn_sees_all_within_its_reach():
    """Two layers of 3×3: three rows up, two pixels to the left, and above to either side."""
    height, width = 5, 7
    by_event, _ = jacobians(PIXELCNN(depth=2), (height, width, 1))
    seen = np.any(np.asarray(by_event) != 0, axis=1).reshape(height, width, height, width)[4, 3]
    expected = np.zeros((height, width), bool)
    expected[1:4, 1:6] = True
    expected[4, 1:3] = True
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["natural", "one number", "images in context"])
def test_nets_start_at_zero(name):
    net, shape, features = NETS[name]
    x = jax.random.normal(jax.random.key(0), (4, *shape))
    context = jax.random.normal(jax.random.key(1), (4, features)) if features else None
    y, _ = jax.jit(net.init_with_output)(jax.random.key(2), x, context)
    np.testing.assert_array_equal(y, np.zeros((4, *shape, 2)))


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("depth", [0, 2])
def test_no_dtype_is_promoted_in_silence(depth):
    net, x = MADE(depth=depth), jnp.ones((4, 3))
    with jax.numpy_dtype_promotion("strict"):
        params = net.init(jax.random.key(0), x)["params"]
        net.in_turn(params, lambda raw, i: raw[:, 0], jnp.zeros_like(x))


def test_a_number_without_context_has_constants():
    params = MADE().init(jax.random.key(0), jnp.ones((3, 1)))["params"]
    assert jax.tree.map(jnp.shape, params) == {"bias": (2,), "log_scale": (2,)}


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "net, shape, match",
    [
        (MADE(order="backwards"), (2, 3), "order must be 'natural', 'reversed' or a seed"),
        (MADE(order=-1), (2, 3), "order must be .* got -1"),
        (MADE(order=True), (2, 3), "order must be .* got True"),
        (MADE(), (2, 3, 1), r"x must be of shape \[B, D\]"),
        (MADE(width=0), (2, 3), "width must be"),
        (MADE(depth=-1), (2, 3), "depth must be"),
        (PIXELCNN(), (2, 3), r"x must be of shape \[B, H, W, C\]"),
        (PIXELCNN(width=2), (2, 3, 3, 3), "width must be a whole number of at least 3, got 2"),
        (PIXELCNN(depth=0), (2, 3, 3, 1), "depth must be"),
        (PIXELCNN(kernel=4), (2, 3, 3, 1), "kernel must be odd, got 4"),
        (PIXELCNN(kernel=1), (2, 3, 3, 1), "kernel must be"),
    ],
)
def test_errors(net, shape, match):
    with pytest.raises(ValueError, match=match):
        net.init(jax.random.key(0), jnp.ones(shape))


@pytest.mark.parametrize("context", [jnp.ones(2), jnp.ones((3, 1)), jnp.ones((2, 1), int)])
@pytest.mark.parametrize("net, shape", [(MADE(), (2, 3)), (PIXELCNN(), (2, 3, 3, 1))])
def test_context_is_floats_for_every_example(net, shape, context):
    with pytest.raises(ValueError, match=r"context must be floats of shape \(2, F\), got"):
        net.init(jax.random.key(0), jnp.ones(shape), context)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("context", [None, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"depth": 0}, {"depth": 11, "width": 5}, {"residual": True}, {"order": 3, "width": 4}],
    ids=str,
)
def test_numbers_in_turn_are_those_of_an_evaluation_for_each(size, context, options):
    """Of x_i = raw_i·(1, 2) + 0.1·i, by the net itself until nothing changes: D times do."""
    net = glowjax.MADE(2, **{"width": 16} | options)
    c = None if context is None else jax.random.normal(jax.random.key(0), (4, context))
    zeros = jnp.zeros((4, size))
    params = jax.jit(net.init)(jax.random.key(1), zeros, c)["params"]
    params = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), params
    )

    def number(raw, i):
        return jnp.sum(raw * jnp.array([1.0, 2.0]), axis=-1) + 0.1 * i

    x = zeros
    for _ in range(size):
        raw = jnp.asarray(net.apply({"params": params}, x, c))
        x = jnp.stack([number(raw[:, i], i) for i in range(size)], axis=1)
    got = jax.jit(lambda p: net.in_turn(p, number, zeros, c))(params)
    np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-12)
