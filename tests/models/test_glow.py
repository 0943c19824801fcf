"""Glow as a whole: the released function, its start, its precision, its cost, its errors."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe_numpy
from cases import SMALL_NET, Case, data, parameters, small_glow

import glowjax
from glowjax.densities.quantization import place

DRAWN = jax.nn.initializers.normal(0.05)


def grey_images(levels=256, batch=2, shape=(16, 16, 3)):
    """Images in which every grey level occurs."""
    values = np.arange(batch * np.prod(shape)) % levels
    values = np.random.default_rng(0).permutation(values).astype(np.uint8)
    return values.reshape(batch, *shape)


def flat(z):
    return np.concatenate([np.reshape(a, (len(a), -1)) for a in z], axis=1)


# ---------------------------------------------------------------------------- faithfulness


@pytest.mark.parametrize(
    "levels, coupling, mixing, num_classes",
    [
        (2, "affine", "conv1x1", None),
        pytest.param(3, "affine", "conv1x1", None, marks=pytest.mark.exhaustive),
        pytest.param(2, "affine", "conv1x1_lu", 4, marks=pytest.mark.slow),
        pytest.param(2, "additive", "conv1x1", None, marks=pytest.mark.slow),
    ],
)
def test_glow_is_the_released_function(levels, coupling, mixing, num_classes):
    """Latents, log-dets, densities and bits/dim within 1e-10, every parameter moved."""
    flow = glowjax.glow(
        levels=levels,
        steps=2,
        width=8,
        coupling=coupling,
        mixing=mixing,
        num_classes=num_classes,
        output_init=DRAWN,
    )
    shape = (8, 8, 3)
    case = Case(flow, shape, (), context=num_classes and "labels", noise=0.05)
    images, noise = grey_images(batch=3, shape=shape) >> 3, 0.25
    _, labels = data(case)

    @jax.jit
    def measure(labels):
        params = parameters(case)
        x = place(images, noise, 32)
        z, log_det = flow.forward(params, x.astype(float), labels)
        model = glowjax.density(flow, shape)
        return params, z, log_det, model.log_prob(params, x.astype(float), labels)

    params, z, log_det, log_prob = measure(labels)
    bits = glowjax.bits_per_dim(log_prob, shape, levels=32)

    x = recipe_numpy.preprocess(images << 3, noise, bits=5)
    params = jax.tree.map(np.asarray, params)
    expected = recipe_numpy.glow(params, x, labels, coupling)
    np.testing.assert_allclose(flat(z), flat(expected[0]), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, expected[1], rtol=1e-10)
    np.testing.assert_allclose(log_prob, expected[2], rtol=1e-10)
    expected_bits = recipe_numpy.bits_per_dim(expected[2], np.prod(shape), 32)
    np.testing.assert_allclose(bits, expected_bits, rtol=1e-10)
    assert [a.shape for a in z] == [a.shape for a in expected[0]]


@pytest.mark.slow
def test_log_det_is_the_jacobians():
    """768 dimensions: within 1e-9 here, and by the float32 test below within 1e-5."""
    log_det, expected = jacobian_of_glow()
    np.testing.assert_allclose(log_det, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.float32
def test_log_det_is_the_jacobians_in_float32():
    log_det, expected = jacobian_of_glow()
    assert log_det.dtype == jnp.float32
    np.testing.assert_allclose(log_det, expected, rtol=1e-5)


def jacobian_of_glow():
    flow = glowjax.glow(levels=2, steps=2, width=16, output_init=DRAWN)
    case = Case(flow, (16, 16, 3), (), noise=0.02)
    x, _ = data(case, batch=1)

    @jax.jit
    def measure(x):
        params = parameters(case)

        def event(x):
            z, log_det = flow.forward(params, x[None])
            return jnp.concatenate([a.reshape(-1) for a in z]), log_det[0]

        jacobian, log_det = jax.jacrev(event, has_aux=True)(x[0])
        return log_det, jacobian.reshape(768, 768)

    log_det, jacobian = measure(x)
    expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    assert abs(expected) > 100  # else a relative error says little
    return log_det, expected


# ---------------------------------------------------------- initialisation from the data


@pytest.fixture
def recorded(monkeypatch):
    """What every ActNorm of `recipe_numpy.glow`, in the flow and in its nets, puts out."""
    outputs, actnorm = [], recipe_numpy.actnorm

    def recording(params, x):
        outputs.append((params, x, actnorm(params, x)))
        return outputs[-1][2]

    monkeypatch.setattr(recipe_numpy, "actnorm", recording)
    return outputs


@pytest.mark.slow
def test_every_actnorm_starts_with_mean_0_and_deviation_1(recorded):
    x, _ = data(Case(small_glow(), (8, 8, 3), ()), batch=8)
    params = jax.jit(small_glow().init)(jax.random.key(1), x)
    recipe_numpy.glow(jax.tree.map(np.asarray, params), x)
    assert len(recorded) == 2 * 2 * 3  # levels × steps × (the flow's and the net's two)
    for given, batch, normalised in recorded:
        np.testing.assert_allclose(normalised.mean(axis=(0, 1, 2)), 0, atol=1e-10)
        deviation = batch.std(axis=(0, 1, 2))
        # the released code adds 1e-6 to the deviation it divides by
        np.testing.assert_allclose(
            normalised.std(axis=(0, 1, 2)), deviation / (deviation + 1e-6), rtol=1e-10
        )
        bias, log_scale = recipe_numpy.actnorm_init(batch)
        np.testing.assert_allclose(given["bias"], bias, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(given["log_scale"], log_scale, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_constant_channels_and_single_images_start_finite(recorded):
    flow = small_glow()

    @jax.jit
    def measure(x):
        params = flow.init(jax.random.key(1), x)
        z, log_det = flow.forward(params, x)
        return params, z, log_det, flow.inverse(params, z)[0]

    ordinary = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    for constant in ([], [1], [0, 1, 2]):
        x = ordinary.at[..., constant].set(0.3)
        params, z, log_det, back = measure(x)
        for leaf in jax.tree.leaves((params, z, log_det)):
            assert jnp.all(jnp.isfinite(leaf))
        np.testing.assert_allclose(back, x, atol=1e-9)
        recorded.clear()
        recipe_numpy.glow(jax.tree.map(np.asarray, params), x)
        _, _, first = recorded[0]
        squeezed = [4 * channel + i for channel in constant for i in range(4)]
        np.testing.assert_allclose(first[..., squeezed], 0, atol=1e-15)


# -------------------------------------------------------------------------------- precision


@pytest.mark.slow
@pytest.mark.float32
def test_images_come_back_bit_exact():
    """All grey levels, at the centres of their bins, of 8 and 5 bits and of 17 levels."""
    flow = glowjax.glow(levels=2, steps=8, width=16, output_init=DRAWN)
    check_images_come_back(flow, (16, 16, 3))


@pytest.mark.exhaustive
@pytest.mark.float32
def test_images_come_back_bit_exact_at_full_size():
    """As above, with smaller weights: errors grow exponentially with depth times net output.

    Of the zero convolutions' weights, N(0, 0.05²) at width 512 makes a net's output deviate by 2.4;
    at 96 steps such a flow shrinks most numbers by e^-27, and float32 keeps nothing of them.
    """
    draw = jax.nn.initializers.normal(0.002)
    flow = glowjax.glow(levels=3, steps=32, width=512, output_init=draw)
    check_images_come_back(flow, (32, 32, 3))


def check_images_come_back(flow, shape):
    # Enough images that the top level's channels are not all dependent on that batch.
    batch = grey_images(batch=16, shape=shape)
    params = jax.jit(flow.init)(jax.random.key(1), glowjax.dequantize(jax.random.key(0), batch))

    @jax.jit
    def round_trips(params, x, z):
        encoded, _ = flow.forward(params, x)
        decoded, _ = flow.inverse(params, z)
        return encoded, flow.inverse(params, encoded)[0], flow.forward(params, decoded)[0]

    like, _ = jax.eval_shape(flow.forward, params, jnp.zeros((2, *shape)))
    drawn = [jax.random.normal(jax.random.key(i), a.shape) for i, a in enumerate(like)]
    for levels in (256, 32, 17):
        images = grey_images(levels, shape=shape)
        assert len(np.unique(images)) == levels
        x = glowjax.bin_centres(images, levels=levels)
        encoded, back, again = round_trips(params, x, drawn)
        np.testing.assert_array_equal(glowjax.quantize(back, levels=levels), images)
        data_error = np.max(np.abs(back - x))
        latent_error = np.max(np.abs(flat(again) - flat(drawn)))
        print(f"x -> z -> x {data_error:.1e}, z -> x -> z {latent_error:.1e}, levels={levels}")
        assert data_error < 1e-4 and latent_error < 1e-4
        assert np.std(flat(encoded)) > 0.1


@pytest.mark.slow
@pytest.mark.float32
def test_bfloat16_nets_leave_the_flow_in_float32():
    """Nets that round to 3 digits move log-dets by less than 0.001 a dimension.

    In a round trip the nets see inputs that differ by float32's rounding; where bfloat16 takes one
    to the other side, the pixels that depend on it come back with the nets' own rounding.
    """
    low, full = small_glow(dtype=jnp.bfloat16), small_glow()
    x, _ = data(Case(full, (8, 8, 3), ()), batch=4)

    @jax.jit
    def measure(x):
        params = low.init(jax.random.key(1), x)
        z, log_det = low.forward(params, x)
        back, _ = low.inverse(params, z)
        return params, z, log_det, back, full.forward(params, x)[1]

    params, z, log_det, back, expected = measure(x)
    for leaf in jax.tree.leaves((params, z, log_det, back)):
        assert leaf.dtype == jnp.float32
    assert 0 < np.max(np.abs(log_det - expected)) < 0.001 * 192
    assert np.median(np.abs(back - x)) < 1e-6 and np.max(np.abs(back - x)) < 0.01


# ------------------------------------------------------------------------------------- cost


@pytest.mark.slow
@pytest.mark.parametrize(
    "backprop", ["store", "invert", pytest.param("recompute", marks=pytest.mark.exhaustive)]
)
def test_programs_do_not_grow_with_depth(backprop):
    def size(steps):
        flow = glowjax.glow(levels=2, steps=steps, width=8, backprop=backprop)
        x = jax.ShapeDtypeStruct((2, 8, 8, 3), float)
        params = jax.eval_shape(flow.init, jax.random.key(0), x)

        def program(key, params, x):
            def loss(params):
                z, log_det = flow.forward(params, x)
                return jnp.sum(log_det), flow.inverse(params, z)

            return flow.init(key, x), jax.grad(loss, has_aux=True)(params)

        return len(jax.jit(program).lower(jax.random.key(0), params, x).as_text())

    # Numbers have more digits, and batches for LAPACK another remainder.
    assert size(640) < 1.02 * size(64)


@pytest.mark.slow
def test_the_rebuilt_gradient_evaluates_each_net_once():
    """As many matrix products as recomputation has: XLA shares the net of inverse and gradient."""

    def products(backprop):
        step = glowjax.as_flow(glowjax.AffineCoupling(SMALL_NET))
        flow = glowjax.repeat(step, 4, backprop=backprop)
        x = jnp.ones((2, 4, 4, 4))
        params = jax.eval_shape(flow.init, jax.random.key(0), x)

        def loss(params, x):
            z, log_det = flow.forward(params, x)
            return jnp.sum(jnp.sin(z)) + jnp.sum(log_det)

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).compile()
        return len(re.findall(r" (?:dot|convolution)\(|custom-call", str(compiled.as_text())))

    assert products("store") < products("recompute") == products("invert")


# ----------------------------------------------------------------------------------- errors

SHAPE = (8, 8, 3)
PLAIN, LABELLED = small_glow(), small_glow(num_classes=4)


def images(*shape, dtype=float):
    return jax.ShapeDtypeStruct(shape, dtype)


def init(flow, x, labels=None):
    return jax.eval_shape(flow.init, jax.random.key(0), x, labels)  # errors need no numbers


def forward(flow, x, labels=None, trained_on=SHAPE):
    good = None if flow is PLAIN else images(2, dtype=int)
    params = init(flow, images(2, *trained_on), good)
    return jax.eval_shape(flow.forward, params, x, labels)


def inverse(z):
    return jax.eval_shape(PLAIN.inverse, init(PLAIN, images(2, *SHAPE)), z)


GOOD = images(2, *SHAPE)
LATENTS = (images(2, 4, 4, 6), images(2, 2, 2, 24))
ERRORS = {
    "rank": (lambda: forward(PLAIN, images(8, 8, 3)), r"x must be images \[B, H, W, C\]"),
    "rank at init": (lambda: init(PLAIN, images(8, 8, 3)), r"x must be images \[B, H, W, C\]"),
    "empty batch": (lambda: init(PLAIN, images(0, 8, 8, 3)), "x must be images .* not empty"),
    "channels": (
        lambda: forward(PLAIN, images(2, 8, 8, 4)),
        r"params of GlowActNorm do not fit x .*\(2, 4, 4, 16\)",
    ),
    "size other than trained on": (
        lambda: inverse((images(2, 4, 4, 6), images(2, 4, 4, 24))),
        "z must be two halves",
    ),
    "odd height": (
        lambda: forward(PLAIN, images(2, 10, 8, 3)),
        "x must have height and width divisible by 4 for levels=2, got 10×8",
    ),
    "too many levels": (
        lambda: init(glowjax.glow(levels=4, steps=1, width=4), GOOD),
        "x must have height and width divisible by 16 for levels=4, got 8×8",
    ),
    "integer images": (
        lambda: forward(PLAIN, images(2, *SHAPE, dtype=np.uint8)),
        "x must be floating point, got uint8",
    ),
    "labels missing": (lambda: forward(LABELLED, GOOD), r"context must be .* 0\.\.3, got None"),
    "labels missing at init": (lambda: init(LABELLED, GOOD), "context must be .* got None"),
    "float labels": (
        lambda: forward(LABELLED, GOOD, images(2)),
        "context must be integer labels .* got float64",
    ),
    "number of labels": (
        lambda: forward(LABELLED, GOOD, images(3, dtype=int)),
        r"context must be .* shape \(2,\) .* got int64 of shape \(3,\)",
    ),
    "labels not expected": (
        lambda: forward(PLAIN, GOOD, images(2, dtype=int)),
        "context must be None, as no part of this flow takes one",
    ),
    "one array for latents": (
        lambda: inverse(LATENTS[0]),
        r"z must be a tuple .* got shape \(2, 4, 4, 6\)",
    ),
    "no latents": (lambda: inverse(()), r"z must be a tuple .* got shape \(\)"),
    "a latent too few": (lambda: inverse(LATENTS[1:]), "z must be a tuple of 2 latents, got"),
    "a latent too many": (
        lambda: inverse((LATENTS[0], *LATENTS)),
        "z must be a tuple of 2 latents, got",
    ),
    "latents swapped": (
        lambda: inverse(LATENTS[::-1]),
        "z must be as at init: params of TopPrior do not fit z",
    ),
    "integer latents": (
        lambda: inverse((LATENTS[0], images(2, 2, 2, 24, dtype=int))),
        "z must be floating point, got int64",
    ),
}
ARGUMENTS: dict[str, Any] = {
    "coupling": "multiplicative",
    "mixing": "conv3x3",
    "scale": "linear",
    "backprop": "forget",
    "levels": 0,
    "steps": 0,
    "width": 2.5,
    "num_classes": 0,
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_errors_of_arguments(name):
    with pytest.raises(ValueError, match=rf"{name} must be .* got {ARGUMENTS[name]!r}"):
        glowjax.glow(**{name: ARGUMENTS[name]})


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()
