"""Weights of normflows: the same log-likelihoods as the library itself computes."""

import numpy as np
import pytest
from converted import check_log_prob, check_round_trip, log_prob, stirred

from glowjax.interop.normflows import from_normflows

torch = pytest.importorskip("torch")
nf = pytest.importorskip("normflows")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch

D = 5
MASK = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])


def mlp(*sizes, **options):
    return nf.nets.MLP(list(sizes), **options)


def coupling(scale_map="exp", split_mode="channel", scale=True):
    inputs = 3 if split_mode == "channel" else 2
    outputs = (D - inputs) * (2 if scale else 1)
    net = mlp(inputs, 6, 8, outputs, leaky=0.1)
    return nf.flows.AffineCouplingBlock(net, scale, scale_map, split_mode)


FLOWS = {
    "masked affine": lambda: nf.flows.MaskedAffineFlow(
        MASK, mlp(D, 6, 7, D, leaky=0.2), mlp(D, 4, 9, D, leaky=0.2)
    ),
    "masked shift": lambda: nf.flows.MaskedAffineFlow(1 - MASK, mlp(D, 6, D)),
    "masked scale": lambda: nf.flows.MaskedAffineFlow(1 - MASK, None, mlp(D, 6, D)),
    "coupling by exp": lambda: coupling(),
    "coupling by sigmoid": lambda: coupling("sigmoid", "channel_inv"),
    "coupling by inverse sigmoid": lambda: coupling("sigmoid_inv"),
    "additive coupling": lambda: coupling(scale=False),
    "spline coupling": lambda: nf.flows.CoupledRationalQuadraticSpline(
        D, 2, 7, activation=torch.nn.SiLU
    ),
    "spline coupling, reversed": lambda: nf.flows.CoupledRationalQuadraticSpline(
        D, 1, 7, num_bins=4, tail_bound=2.0, reverse_mask=True
    ),
    "autoregressive spline": lambda: nf.flows.AutoregressiveRationalQuadraticSpline(D, 2, 8),
    "maf": lambda: nf.flows.MaskedAffineAutoregressive(D, 8),
    "LU": lambda: nf.flows.LULinearPermute(D, identity_init=False),
    "affine": lambda: nf.flows.InvertibleAffine(D),
    "dense affine": lambda: nf.flows.InvertibleAffine(D, use_lu=False),
    "actnorm": lambda: nf.flows.ActNorm(D),
    "constant": lambda: nf.flows.AffineConstFlow((D,)),
    "shuffle": lambda: nf.flows.Permute(D),
    "swap": lambda: nf.flows.Permute(D, "swap"),
}


def data(count=20):
    return 1.3 * np.random.default_rng(0).normal(size=(count, D))


def made_of(*flows, learned_base=False):
    torch.manual_seed(0)
    base = nf.distributions.DiagGaussian(D, trainable=learned_base)
    model = nf.NormalizingFlow(base, [flow() for flow in flows])
    for flow in model.flows:
        if hasattr(flow, "data_dep_init_done"):
            flow.data_dep_init_done = torch.tensor(1.0)
    return stirred(model)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_the_same_likelihood(name):
    model = made_of(FLOWS[name])
    flow, params = from_normflows(model)
    check_log_prob(flow, params, data(), log_prob(model, data()))
    check_round_trip(flow, params, data())


def test_a_chain_on_a_learned_base_has_the_same_likelihood():
    names = ("spline coupling", "LU", "masked affine", "swap", "actnorm")
    model = made_of(*(FLOWS[name] for name in names), learned_base=True)
    flow, params = from_normflows(model)
    check_log_prob(flow, params, data(), log_prob(model, data()))


CONTEXT = np.random.default_rng(1).normal(size=(20, 2))
CONDITIONAL = {
    "spline coupling": lambda: nf.flows.CoupledRationalQuadraticSpline(
        D, 2, 7, num_context_channels=2
    ),
    "autoregressive spline": lambda: nf.flows.AutoregressiveRationalQuadraticSpline(
        D, 2, 8, num_context_channels=2
    ),
    "maf": lambda: nf.flows.MaskedAffineAutoregressive(D, 8, context_features=2),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_conditional_flow_has_the_same_likelihood(name):
    """Beside a flow that sees no context."""
    plain = made_of(CONDITIONAL[name], FLOWS["LU"])
    model = nf.ConditionalNormalizingFlow(plain.q0, plain.flows)
    flow, params = from_normflows(model)
    expected = log_prob(model, data(), CONTEXT)
    check_log_prob(flow, params, data(), expected, CONTEXT)
    check_round_trip(flow, params, data(), CONTEXT)
    assert np.all(np.abs(expected - log_prob(model, data(), -CONTEXT)) > 1e-4)


@pytest.mark.float32
def test_likelihoods_in_float32():
    model = made_of(FLOWS["LU"], FLOWS["masked affine"], FLOWS["autoregressive spline"]).float()
    flow, params = from_normflows(model)
    x = data().astype(np.float32)
    check_log_prob(flow, params, x, log_prob(model.double(), x.astype(np.float64)))


@pytest.mark.parametrize("flow", [nf.flows.Planar, nf.flows.Radial])
def test_what_normflows_only_samples_has_the_density_of_its_samples(flow):
    model = made_of(lambda: flow((D,)), lambda: flow((D,)))
    with torch.no_grad():
        x = torch.tensor(data())
        expected = model.q0.log_prob(x)
        for each in model.flows:  # forward_and_log_det adds up in float32
            x, log_det = each(x)
            expected = expected - log_det
    expected = expected.numpy()
    ours, params = from_normflows(model)
    check_log_prob(ours, params, x.numpy(), expected)
    np.testing.assert_allclose(ours.forward(params, x.numpy())[0], data(), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: torch.nn.Linear(2, 2),
            "model must be a NormalizingFlow, .* or MultiscaleFlow of normflows, got 'Linear'",
        ),
        (
            lambda: nf.NormalizingFlow(nf.distributions.UniformGaussian(D, [0]), []),
            "base must be one of AffineGaussian, .* of normflows, got 'UniformGaussian'",
        ),
        (
            lambda: made_of(lambda: nf.flows.Planar((D,), act="leaky_relu")),
            "Planar must be one that glowjax has, got one with act='leaky_relu'",
        ),
        (
            lambda: nf.NormalizingFlow(nf.distributions.DiagGaussian(D), [nf.flows.ActNorm(D)]),
            "ActNorm must be one that glowjax has, got one with no initialisation by data yet",
        ),
        (
            lambda: made_of(lambda: nf.flows.MaskedAffineFlow(MASK)),
            "MaskedAffineFlow must be one with a net, got 'neither t nor s'",
        ),
        (
            lambda: made_of(lambda: nf.flows.MaskedAffineFlow(MASK / 2, mlp(D, 6, D))),
            "MaskedAffineFlow must be one of a mask of 0 and 1",
        ),
        (
            lambda: made_of(lambda: nf.flows.BatchNorm()),
            "flow must be one of ActNorm, .* of normflows, got 'BatchNorm'",
        ),
        (
            lambda: made_of(lambda: nf.flows.MaskedAffineFlow(MASK, mlp(D, 6, D), mlp(D, 6, 6, D))),
            "MaskedAffineFlow must be nets of one depth and activation",
        ),
        (
            lambda: made_of(
                lambda: nf.flows.MaskedAffineFlow(MASK, mlp(D, 6, D, output_fn="tanh"))
            ),
            "net must be a Sequential of Linear layers .* got 'Linear, LeakyReLU, Linear, Tanh'",
        ),
        (
            lambda: made_of(
                lambda: nf.flows.MaskedAffineAutoregressive(D, 8, use_residual_blocks=False)
            ),
            "net must be one that computes what its layers do, got 'MADE'",
        ),
        (
            lambda: made_of(
                lambda: nf.flows.AutoregressiveRationalQuadraticSpline(D, 1, 8, permute_mask=True)
            ),
            "MADE must be one that glowjax has, got one with a permutation of its inputs",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        from_normflows(make())
