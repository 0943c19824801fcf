"""Autoregressive flows: triangles, the loop of the inverse and its derivatives, densities."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MADE, SMALL_PIXELCNN, Case, check, data, parameters
from test_flow_properties import close

import glowjax
from glowjax import as_flow
from glowjax.bijections.scalar.elementwise import Elementwise

AFFINE = glowjax.affine(bound=2.0)
RANDOM_ORDER = functools.partial(SMALL_MADE, depth=1, order=3)
VECTORS = Case(as_flow(glowjax.Autoregressive(AFFINE, RANDOM_ORDER)), (4,), (), context=2)


def cubic():
    """z = shift + x + exp(raw)·x³, inverted by bisection."""

    def forward(x, raw):
        a = jnp.exp(raw[..., 1])
        return raw[..., 0] + x + a * x**3, jnp.log1p(3 * a * x**2)

    def inverse(z, raw):
        reach = jnp.abs(jax.lax.stop_gradient(z - raw[..., 0])) + 1
        x = glowjax.increasing_root(lambda x: forward(x, raw)[0] - z, -reach, reach)
        return x, -forward(x, raw)[1]

    return Elementwise(2, forward, inverse)


@pytest.mark.exhaustive
@pytest.mark.parametrize("invert", [False, True])
def test_any_elementwise_map_will_do(invert):
    flow = as_flow(glowjax.Autoregressive(cubic(), RANDOM_ORDER))
    check(Case(glowjax.invert(flow) if invert else flow, (3,), (), context=2))


# --------------------------------------------------------------------------------- triangles


def jacobian(flow, direction, context=2):
    case = Case(flow, (4,), (), context=context)
    x, context = data(case, batch=1)

    @jax.jit
    def measure(x):
        params = parameters(case)
        return jax.jacrev(lambda x: getattr(flow, direction)(params, x, context)[0][0])(x)

    return np.asarray(measure(x))[:, 0]


def check_triangular(matrix):
    np.testing.assert_array_equal(matrix != 0, np.tri(len(matrix), dtype=bool))


@pytest.mark.slow
@pytest.mark.parametrize("model", [glowjax.maf, glowjax.iaf])
def test_a_step_of_maf_and_iaf_is_a_triangle(model):
    """Which the permutation, at the latent end of maf and the data end of iaf, turns round."""
    matrix = jacobian(model(steps=1, width=8, order="alternate"), "forward")
    check_triangular(matrix[::-1] if model is glowjax.maf else matrix[:, ::-1])


@pytest.mark.slow
def test_steps_alternate():
    """Two steps in opposite orders: every latent depends on every input; riffles take more."""
    two_steps = jacobian(glowjax.maf(steps=2, width=8, order="alternate"), "forward")
    assert np.all(two_steps != 0)
    riffled = [jacobian(glowjax.maf(steps=n, width=8), "forward") != 0 for n in (2, 4)]
    assert not np.all(riffled[0]) and np.all(riffled[1])


@pytest.mark.exhaustive
def test_a_shuffled_maf_is_a_triangle_in_another_order():
    order = np.random.RandomState(1).permutation(4)
    matrix = jacobian(glowjax.maf(steps=1, width=8, order=1), "forward", context=None)
    check_triangular(matrix[np.argsort(order)])


@pytest.mark.slow
def test_maf_starts_as_a_normalisation_of_the_data():
    x = 5 + 3 * jax.random.normal(jax.random.key(0), (50, 3))
    flow = glowjax.maf(steps=3, width=8)
    z, _ = flow.forward(flow.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(jnp.mean(z, 0), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.std(z, 0), 1, atol=1e-5)


# ------------------------------------------------------------------------ the loop of the inverse


def substituted(params, z, context):
    """The inverse of `VECTORS`, number by number, written out."""
    net = RANDOM_ORDER(features=2)
    x = jnp.zeros_like(z)
    for i in net.ordering(z.shape[1:]):
        raw = jnp.asarray(net.apply({"params": params["net"]}, x, context))
        x = x.at[:, i].set(AFFINE.inverse(z[:, i], raw[:, i])[0])
    raw = jnp.asarray(net.apply({"params": params["net"]}, x, context))
    return x, jnp.sum(AFFINE.inverse(z, raw)[1], axis=1)


@pytest.mark.slow
def test_inverse_and_its_derivatives_are_those_of_substitution():
    z, context = data(VECTORS)

    def loss(inverse, params, z, context):
        x, log_det = inverse(params, z, context)
        return jnp.sum(jnp.sin(x)) + jnp.sum(jnp.square(log_det))

    @jax.jit
    def measure(z, context):
        params = parameters(VECTORS)

        def derivatives(inverse):
            first = jax.grad(functools.partial(loss, inverse), (0, 1, 2))
            second = jax.grad(lambda *given: sum(map(jnp.sum, jax.tree.leaves(first(*given)))))
            return (
                inverse(params, z, context),
                first(params, z, context),
                second(params, z, context),
            )

        return derivatives(VECTORS.flow.inverse), derivatives(substituted)

    close(*measure(z, context))


@pytest.mark.slow
@pytest.mark.parametrize(
    "net, shapes",
    [
        (SMALL_MADE, [(4,), (16,)]),
        (SMALL_PIXELCNN, [(2, 2, 1), (3, 4, 1)]),
    ],
)
def test_the_program_of_the_inverse_does_not_grow_with_the_numbers(net, shapes):
    flow = as_flow(glowjax.Autoregressive(AFFINE, net))

    def programs(shape):
        z = jnp.ones((3, *shape))
        params = jax.eval_shape(flow.init, jax.random.key(0), z)

        def loss(params, z):
            x, log_det = flow.inverse(params, z)
            return jnp.sum(x) + jnp.sum(log_det)

        return [
            jax.jit(program).lower(params, z).as_text()
            for program in (flow.inverse, jax.grad(loss, (0, 1)))
        ]

    for few, many in zip(*map(programs, shapes), strict=True):
        assert len(few.splitlines()) == len(many.splitlines())
        assert "stablehlo.while" in many
        # No activations `[B, ...]` are kept of the steps, but the numbers `[B]` alone.
        assert not re.search(rf"tensor<{np.prod(shapes[1])}x3x\d", many)


@pytest.mark.slow
def test_vmap_of_the_inverse_is_a_loop():
    z, context = data(VECTORS, batch=6)
    split = z.reshape(2, 3, 4), context.reshape(2, 3, 2)

    @jax.jit
    def measure(z, context):
        params = parameters(VECTORS)
        mapped = jax.vmap(VECTORS.flow.inverse, (None, 0, 0))(params, *split)
        return mapped, VECTORS.flow.inverse(params, z, context)

    (x, log_det), expected = measure(z, context)
    close((x.reshape(6, 4), log_det.reshape(6)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, backprop",
    [(glowjax.maf, "invert"), (glowjax.iaf, "invert"), (glowjax.iaf, "recompute")],
)
def test_rebuilt_gradients_are_the_stored_ones(model, backprop):
    case = Case(model(steps=2, width=8, depth=1), (2,), (), context=2)
    x, context = data(case)

    @jax.jit
    def measure(x, context):
        params = parameters(case)

        def gradients(backprop):
            flow = model(steps=2, width=8, depth=1, backprop=backprop)

            def loss(params, x, context):
                z, log_det = flow.forward(params, x, context)
                return jnp.sum(jnp.sin(z)) + jnp.sum(jnp.square(log_det))

            return jax.grad(loss, (0, 1, 2))(params, x, context)

        return gradients(backprop), gradients("store")

    close(*measure(x, context))


class _WrongOrder(nn.Module):
    features: int

    @nn.nowrap
    def ordering(self, event_shape):
        return np.arange(*event_shape)

    @nn.compact
    def __call__(self, x, context=None):
        return SMALL_MADE(self.features, order="reversed")(x, context)


@pytest.mark.slow
def test_a_wrong_order_is_caught():
    with pytest.raises(AssertionError):
        check(Case(as_flow(glowjax.Autoregressive(AFFINE, _WrongOrder)), (3,), ()))


@pytest.mark.slow
@pytest.mark.float32
def test_parameters_of_a_wider_type_are_kept_so():
    z, context = data(VECTORS)
    params = jax.jit(lambda: parameters(VECTORS))()
    half = VECTORS.flow.inverse(params, z.astype(jnp.bfloat16), context)
    assert half[0].dtype == half[1].dtype == jnp.float32


# ---------------------------------------------------------------------------------- densities


@pytest.mark.slow
def test_maf_integrates_to_one():
    flow = glowjax.maf(steps=2, width=8)
    model = glowjax.density(flow, (2,))
    grid, width = np.linspace(-15, 15, 601, retstep=True)
    x = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    @jax.jit
    def total(x):
        params = parameters(Case(flow, (2,), (), noise=0.1))
        return jnp.sum(jnp.exp(model.log_prob(params, x))) * width**2

    np.testing.assert_allclose(total(x), 1, atol=1e-3)


@pytest.mark.slow
def test_iaf_samples_with_log_probabilities_from_its_base():
    model = glowjax.density(glowjax.iaf(steps=2, width=8), (3,))

    @jax.jit
    def measure(key):
        params = model.init_from_base(key, 32)
        params = jax.tree.map(lambda p: p + 0.1, params)
        x, log_prob = model.sample_and_log_prob(params, key, 8)
        return log_prob, model.log_prob(params, x)

    close(*measure(jax.random.key(0)))


# ---------------------------------------------------------------------------------- errors


class _NoPermutation(nn.Module):
    features: int

    @nn.nowrap
    def ordering(self, event_shape):
        return np.zeros(event_shape, int)

    @nn.compact
    def __call__(self, x, context=None):
        return jnp.zeros((*x.shape, self.features), x.dtype)


def test_errors():
    flow = as_flow(glowjax.Autoregressive(AFFINE, _NoPermutation))
    z = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"order must be 0..2, each once, got"):
        flow.inverse({}, z)
    flow = VECTORS.flow
    params = jax.eval_shape(flow.init, jax.random.key(0), z, z)
    for apply in (flow.forward, flow.inverse):
        with pytest.raises(ValueError, match="params of Autoregressive do not fit"):
            jax.eval_shape(apply, params, jnp.ones((2, 4)), z)
        with pytest.raises(ValueError, match="context must be floats"):
            jax.eval_shape(apply, params, z, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\]"):
        flow.init(jax.random.key(0), jnp.ones((2, 3, 1)))


@pytest.mark.parametrize("model", [glowjax.maf, glowjax.iaf])
@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"width": 0}, {"depth": -1}, {"order": "natural"}, {"order": -1}, {"unroll": 0}],
)
def test_models_refuse(model, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        model(**options)
