"""What the nets promise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import whole

import glowjax


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("options", [{}, {"ring": False, "norm": False}])
def test_convnet_in_bfloat16_keeps_parameters_and_output_in_float32(options):
    net = functools.partial(
        glowjax.ConvNet, 4, width=8, output_init=jax.nn.initializers.normal(0.05), **options
    )
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 2))

    @jax.jit
    def outputs(x):
        params = net(dtype=jnp.bfloat16).init(jax.random.key(1), x)
        return params, net(dtype=jnp.bfloat16).apply(params, x), net().apply(params, x)

    params, low, full = outputs(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert low.dtype == full.dtype == jnp.float32 and low.shape == (4, 4, 4, 4)
    assert 0 < jnp.max(jnp.abs(low - full)) < 0.03 * jnp.max(jnp.abs(full))


PLAIN = {"ring": False, "norm": False}


def moved(net, x):
    """Parameters of `net`, every one of them moved: at the start many gradients are zero."""
    return glowjax.testing.moved(net.init(jax.random.key(1), x)["params"], 0.05)


def value_and_gradients(net, params, x):
    """The output, and the gradients of a linear loss of it with respect to `(params, x)`."""

    def loss(params, x):
        y = net.apply({"params": params}, x)
        return jnp.sum(y * jax.random.randint(jax.random.key(3), y.shape, -1, 2)), y

    gradients, y = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    return y, gradients


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, PLAIN], ids=["glow", "plain"])
@pytest.mark.parametrize("channels, features", [(2, 4), (3, 7)])
def test_bfloat16_net_and_its_gradients_are_those_of_float64(channels, features, options):
    """Where all numbers are whole and small, exactly so, but for sums over the batch.

    Each of those is rounded once, by 2⁻⁸ at most; a `log_scale` adds up a row of them.
    """
    net = functools.partial(glowjax.ConvNet, features, width=32, **options)
    x = jax.random.randint(jax.random.key(0), (8, 6, 5, channels), -2, 3).astype(float)

    @jax.jit
    def both(x):
        params = whole(net().init(jax.random.key(1), x)["params"], jax.random.key(2))
        low = value_and_gradients(net(dtype=jnp.bfloat16), params, x)
        return low, value_and_gradients(net(), params, x)

    (y, (g_params, g_x)), (exact_y, (exact_g_params, exact_g_x)) = both(x)
    assert y.dtype == jnp.float64  # of the parameters; hidden arithmetic alone is in bfloat16
    assert {g.dtype for g in jax.tree.leaves(g_params)} == {jnp.dtype("float64")}
    assert jnp.std(exact_y) > 0.5
    np.testing.assert_array_equal(y, exact_y)
    np.testing.assert_array_equal(g_x, exact_g_x)

    def check(g, exact):
        assert jnp.any(exact != 0)
        assert jnp.max(jnp.abs(g - exact)) <= 2**-8 * jnp.max(jnp.abs(exact))

    jax.tree.map(check, g_params, exact_g_params)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, PLAIN], ids=["glow", "plain"])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_prepared_parameters_are_the_same_function(dtype, options):
    """Bit by bit in the value; gradients through `prepare` are summed in another order."""
    # `prepare` does not see `features`, but the parameters' own
    net, other = (glowjax.ConvNet(n, width=8, dtype=dtype, **options) for n in (5, 1))
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 3))

    class Prepared:
        @staticmethod
        def apply(variables, x):
            return net.apply(other.prepare(variables["params"]), x)

    @jax.jit
    def both(x):
        params = moved(net, x)
        return value_and_gradients(net, params, x), value_and_gradients(Prepared, params, x)

    (y, gradients), (prepared_y, prepared_gradients) = both(x)
    np.testing.assert_array_equal(y, prepared_y)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
        prepared_gradients,
        gradients,
    )


def test_convnet_starts_as_zero():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    y, params = jax.jit(glowjax.ConvNet(6, width=4).init_with_output)(jax.random.key(1), x)
    np.testing.assert_array_equal(y, np.zeros((2, 4, 4, 6)))
    shapes = jax.tree.map(jnp.shape, params["params"])
    assert shapes["conv1"]["weight"] == (3, 3, 3, 4)
    assert shapes["conv2"]["weight"] == (1, 1, 4, 4)
    assert shapes["out"]["weight"] == (3, 3, 5, 6)


def test_the_gradient_keeps_no_patches():
    """What backpropagation keeps of the activations has the net's width at most."""
    net, x = glowjax.ConvNet(features=2, width=4), jnp.ones((2, 8, 8, 3))
    params = net.init(jax.random.key(0), x)
    _, pull = jax.vjp(lambda x: net.apply(params, x), x)
    kept = [leaf.size for leaf in jax.tree.leaves(pull)]
    assert max(kept) <= 2 * 8 * 8 * 4


def test_hidden_weights_are_drawn_with_deviation_005():
    x = jnp.ones((1, 2, 2, 7))
    params = jax.jit(glowjax.ConvNet(2, width=200).init)(jax.random.key(0), x)["params"]
    for layer in ("conv1", "conv2"):
        weight = np.asarray(params[layer]["weight"])
        assert abs(weight.std() - 0.05) < 0.001 and abs(weight.mean()) < 0.002


def test_mlp_takes_a_context_beside_vectors_alone():
    """An array of more axes has no place for it: this ended in a TypeError of a concatenation."""
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\] where a context is given"):
        glowjax.MLP(4).init(jax.random.key(0), jnp.ones((1, 3, 2)), jnp.ones((1, 2)))


def test_mlp_reads_its_context():
    net = glowjax.MLP(3, width=8)
    x, context = jax.random.normal(jax.random.key(0), (2, 5, 2))

    @jax.jit
    def measure(x, context):
        params = net.init(jax.random.key(1), x, context)
        start = net.apply(params, x, context)
        moved = jax.tree.map(lambda p: p + 0.1, params)
        one_input = net.apply(moved, jnp.concatenate([x, context], axis=-1))
        gradient = jax.grad(lambda c: jnp.sum(jnp.asarray(net.apply(moved, x, c))))(context)
        return start, net.apply(moved, x, context), one_input, gradient

    start, y, one_input, gradient = measure(x, context)
    np.testing.assert_array_equal(start, np.zeros((5, 3)))
    np.testing.assert_allclose(y, one_input, rtol=1e-12)
    assert jnp.all(gradient != 0)


@pytest.mark.slow
def test_wrong_channels_are_refused_in_a_repeat_too():
    net = functools.partial(glowjax.ConvNet, width=8)
    steps = glowjax.repeat(glowjax.as_flow(glowjax.AffineCoupling(net)), 2)
    params = steps.init(jax.random.key(0), jnp.ones((2, 4, 4, 5)))
    with pytest.raises(ValueError, match="x must have 2 channels, got shape"):
        steps.forward(params, jnp.ones((2, 4, 4, 6)))
    with pytest.raises(ValueError, match="params do not fit Coupling"):
        steps.forward({}, jnp.ones((2, 4, 4, 5)))


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_gradients_under_shard_map_are_those_of_the_whole_batch(dtype):
    net = glowjax.ConvNet(4, 8, dtype=dtype)
    x = jnp.round(jax.random.normal(jax.random.key(0), (4, 4, 4, 2)))
    params = whole(net.init(jax.random.key(1), x)["params"], jax.random.key(2))

    def loss(params, x):
        return jnp.sum(jnp.asarray(net.apply({"params": params}, x)))

    mesh = jax.sharding.Mesh(jax.devices(), ("data",))
    specs = (jax.P(), jax.P("data"))
    gradients = jax.grad(loss, (0, 1))
    sharded = jax.jit(jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs))

    def check(a, b):  # sums over devices come in another order, each rounded by 2⁻⁸ in bfloat16
        assert np.all(np.abs(a - b) <= 2.0**-8 * np.max(np.abs(b)))

    jax.tree.map(check, sharded(params, x), jax.jit(gradients)(params, x))


@pytest.mark.parametrize("residual", [False, True])
def test_an_mlp_is_its_formula(residual):
    net = glowjax.MLP(2, width=4, depth=2, activation="softplus", residual=residual)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    variables: Any = net.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: p + 0.3, variables["params"])

    def dense(h, name):
        return h @ params[name]["kernel"] + params[name]["bias"]

    f = jax.nn.softplus
    if residual:
        h = dense(x, "dense")
        for block in ("block1", "block2"):
            h = h + dense(f(dense(f(h), f"{block}_dense1")), f"{block}_dense2")
    else:
        h = f(dense(f(dense(x, "dense1")), "dense2"))
    out = params["out"]
    expected = (h @ out["weight"] + out["bias"]) * jnp.exp(3 * out["log_scale"])
    found: Any = net.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_activation_is_a_name_or_a_function():
    x = jnp.ones((2, 3))
    for activation in ("relu", jax.nn.relu):
        jax.eval_shape(glowjax.MLP(2, activation=activation).init, jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"activation must be a function, or one of 'elu',.*"):
        glowjax.MLP(2, activation="rlu").init(jax.random.key(0), x)
