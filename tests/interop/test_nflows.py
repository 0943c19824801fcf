"""Weights of nflows: the same log-likelihoods as the library itself computes."""

import functools
from typing import Any

import numpy as np
import pytest
from converted import check_log_prob, check_round_trip, example, log_prob, stirred

import glowjax
from glowjax.interop.nflows import from_nflows

torch = pytest.importorskip("torch")
pytest.importorskip("nflows")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and nflows

from nflows import transforms  # noqa: E402
from nflows.distributions import ConditionalDiagonalNormal, StandardNormal  # noqa: E402
from nflows.flows import Flow, MaskedAutoregressiveFlow, SimpleRealNVP  # noqa: E402
from nflows.nn import nets  # noqa: E402
from nflows.utils import torchutils  # noqa: E402

D = 5
ALTERNATING = torchutils.create_alternating_binary_mask(D, even=True)
OTHER = torchutils.create_alternating_binary_mask(D, even=False)
MIDDLE = torchutils.create_mid_split_binary_mask(D)


def resnet(activation=torch.nn.functional.relu, **options):
    return functools.partial(
        nets.ResidualNet, hidden_features=7, num_blocks=2, activation=activation, **options
    )


class Wrapped(torch.nn.Module):
    """nflows calls its nets with a context, which an MLP does not take."""

    def __init__(self, net, last=lambda y: y):
        super().__init__()
        self.net, self.last = net, last

    def forward(self, x, context=None):
        return self.last(self.net(x))


def mlp(inputs, outputs):
    return Wrapped(nets.MLP((inputs,), (outputs,), [6, 9], activation=torch.tanh))


def layers(inputs, outputs, **options):
    net = torch.nn.Sequential(
        torch.nn.Linear(inputs, 6), torch.nn.LeakyReLU(0.2), torch.nn.Linear(6, outputs)
    )
    return Wrapped(net, **options)


def spline_coupling(mask, net, **options):
    return transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask, net, num_bins=4, tails="linear", tail_bound=2.5, **options
    )


def masked(residual, activation, **options):
    return transforms.MaskedAffineAutoregressiveTransform(
        D, 10, use_residual_blocks=residual, activation=activation, **options
    )


def batch_norm():
    norm = transforms.BatchNorm(D)
    norm.running_mean += torch.arange(D) / 3
    norm.running_var += 0.5 + torch.arange(D)
    return norm


PARTS = {
    "residual masked net": lambda: masked(True, torch.nn.functional.elu),
    "masked net": lambda: masked(False, torch.tanh),
    "random masks": lambda: masked(False, torch.nn.functional.softplus, random_mask=True),
    "masked spline": lambda: transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        num_bins=3, features=D, hidden_features=8, tails="linear", tail_bound=3.0
    ),
    "affine coupling": lambda: transforms.AffineCouplingTransform(ALTERNATING, resnet()),
    "other mask": lambda: transforms.AffineCouplingTransform(OTHER, mlp),
    "additive coupling": lambda: transforms.AdditiveCouplingTransform(MIDDLE, layers),
    "spline coupling": lambda: spline_coupling(ALTERNATING, resnet(torch.nn.functional.silu)),
    "unconditional spline": lambda: spline_coupling(
        OTHER, resnet(torch.nn.functional.gelu), apply_unconditional_transform=True
    ),
    "unconditional spline, other mask": lambda: spline_coupling(
        ALTERNATING, mlp, apply_unconditional_transform=True
    ),
    "LU": lambda: transforms.LULinear(D, identity_init=False),
    "QR": lambda: transforms.QRLinear(D, num_householder=3),
    "SVD": lambda: transforms.SVDLinear(D, num_householder=4),
    # Its orthogonal start calls torch.qr, which torch 2.15 no longer has.
    "dense": lambda: transforms.NaiveLinear(D, orthogonal_initialization=False),
    "actnorm": lambda: transforms.ActNorm(D),
    "batch norm": batch_norm,
    "random permutation": lambda: transforms.RandomPermutation(D),
    "inverse": lambda: transforms.InverseTransform(transforms.ActNorm(D)),
}


def data(count=20):
    return 1.3 * np.random.default_rng(0).normal(size=(count, D))


def made_of(*parts):
    torch.manual_seed(0)
    composite = transforms.CompositeTransform([make() for make in parts])
    return stirred(Flow(composite, StandardNormal([D])))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_the_same_likelihood(name):
    model = made_of(PARTS[name])
    flow, params = from_nflows(model)
    check_log_prob(flow, params, data(), log_prob(model, data()))
    check_round_trip(flow, params, data())


WHOLE = {
    "maf": lambda: MaskedAutoregressiveFlow(
        D, 8, 3, 2, batch_norm_between_layers=False, use_random_permutations=True
    ),
    "realnvp": lambda: SimpleRealNVP(D, 8, 3, 2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_model_has_the_same_likelihood(name):
    torch.manual_seed(1)
    model = stirred(WHOLE[name](), scale=0.1)
    flow, params = from_nflows(model)
    check_log_prob(flow, params, data(), log_prob(model, data()))
    check_round_trip(flow, params, data())


CONTEXT = np.random.default_rng(1).normal(size=(20, 2))
CONDITIONAL = {
    "affine coupling": lambda: transforms.AffineCouplingTransform(
        OTHER, resnet(torch.nn.functional.elu, context_features=2)
    ),
    "spline coupling": lambda: spline_coupling(
        ALTERNATING, resnet(context_features=2), apply_unconditional_transform=True
    ),
    "residual masked net": lambda: masked(True, torch.tanh, context_features=2),
    "masked net": lambda: masked(False, torch.nn.functional.relu, context_features=2),
    "random masks": lambda: masked(False, torch.tanh, context_features=2, random_mask=True),
    "masked spline": lambda: transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        num_bins=3,
        features=D,
        hidden_features=8,
        context_features=2,
        tails="linear",
        tail_bound=3.0,
    ),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_conditional_part_has_the_same_likelihood(name):
    """Beside a part that sees no context."""
    model = made_of(CONDITIONAL[name], PARTS["LU"])
    flow, params = from_nflows(model)
    expected = log_prob(model, data(), CONTEXT)
    check_log_prob(flow, params, data(), expected, CONTEXT)
    check_round_trip(flow, params, data(), CONTEXT)
    assert np.all(np.abs(expected - log_prob(model, data(), -CONTEXT)) > 1e-4)
    with pytest.raises(ValueError, match=r"^context must be floats of shape \(20, F\), got None"):
        flow.forward(params, data())


@pytest.mark.float32
def test_likelihoods_in_float32():
    torch.manual_seed(2)
    spline = PARTS["unconditional spline"]
    model = made_of(PARTS["actnorm"], PARTS["LU"], spline, PARTS["residual masked net"]).float()
    flow, params = from_nflows(model)
    x = data().astype(np.float32)
    check_log_prob(flow, params, x, log_prob(model.double(), x.astype(np.float64)))


def test_samples_go_back_to_the_latents_of_nflows():
    model = made_of(PARTS["affine coupling"], PARTS["masked net"])
    flow, params = from_nflows(model)
    with torch.no_grad():
        latents = model.transform_to_noise(torch.tensor(data())).numpy()
    np.testing.assert_allclose(flow.inverse(params, latents)[0], data(), atol=1e-9)


def test_a_converted_flow_goes_on_training():
    flow, params = from_nflows(made_of(PARTS["affine coupling"], PARTS["actnorm"]))
    model = glowjax.density(flow, (D,))
    fitted = glowjax.fit(model, data(64), params=params, steps=20, batch_size=32, show=False)
    before, after = (np.mean(model.log_prob(p, data(64))) for p in (params, fitted.params))
    assert after > before + 0.1


@pytest.mark.float32
def test_the_example_of_the_page_runs():
    names: dict[str, Any] = {}
    exec(example("from_nflows"), names)
    expected = log_prob(names["trained"].eval(), np.zeros((5, 3), np.float32))
    np.testing.assert_allclose(names["log_p"], expected, rtol=1e-5)


def composite(*parts):
    return transforms.CompositeTransform(list(parts))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), "model must be a flow or a transform of nflows, got 'Lin"),
        (
            lambda: composite(transforms.Sigmoid()),
            "transform must be one of ActNorm, .* of nflows, got 'Sigmoid'",
        ),
        (
            lambda: Flow(transforms.ActNorm(D), ConditionalDiagonalNormal([D])),
            "model must be one of base StandardNormal, got 'the base ConditionalDiagonalNormal'",
        ),
        (
            lambda: Flow(transforms.ActNorm(D), StandardNormal([D]), torch.nn.Linear(2, 2)),
            "model must be one that glowjax has, got one with the embedding net Linear",
        ),
        (
            lambda: masked(True, torch.relu, use_batch_norm=True),
            "MADE must be one that glowjax has, got one with batch normalisation",
        ),
        (
            lambda: masked(True, torch.sin),
            "activation must be ReLU, .* got sin",
        ),
        (
            lambda: transforms.AffineCouplingTransform(torch.tensor([1, 1, 1, 1, 0]), mlp),
            "mask must be of 2 channels, mapped or passing, got '4 of 5 mapped'",
        ),
        (
            lambda: transforms.AffineCouplingTransform(
                ALTERNATING, lambda i, o: torch.nn.Bilinear(i, i, o)
            ),
            "net must be a ResidualNet, an MLP or a Sequential, got 'Bilinear'",
        ),
        (
            lambda: transforms.AffineCouplingTransform(
                ALTERNATING, functools.partial(layers, last=torch.tanh)
            ),
            "net must be one that computes what its layers do, got 'Wrapped'",
        ),
        (
            lambda: transforms.PiecewiseRationalQuadraticCouplingTransform(MIDDLE, resnet()),
            "one with tails=None, which is not 'linear'",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        from_nflows(make())
