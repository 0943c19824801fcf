"""Flows of vectors in glowjax and in other libraries, as `experiments.bench flows` times them.

Three kinds, alike in all: 5 masked autoregressive layers, or 8 couplings, affine or by splines of 8
bins, with nets of 2 hidden layers of 64.
"""

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import glowjax

Kind = Literal["maf", "spline", "affine"]
MODELS: dict[Kind, Callable[..., glowjax.Flow]] = {
    "maf": glowjax.maf,
    "affine": glowjax.realnvp_mlp,
    "spline": glowjax.neural_spline_flow,
}
"""What makes a flow of a kind, as it is by default."""

LAYERS: dict[Kind, int] = {"maf": 5, "spline": 8, "affine": 8}
WIDTH, DEPTH, BINS = 64, 2, 8
RATE = 1e-3


class Calls(NamedTuple):
    """What is timed of one library: each call returns when its result is there."""

    log_prob: Callable[[np.ndarray], Any]
    step: Callable[[np.ndarray], Any]  # a gradient and an update by Adam
    sample: Callable[[int], Any]
    temporaries: Callable[[np.ndarray], int | None]  # bytes of a gradient, where it is known


def check_installed(libraries: tuple[str, ...]) -> None:
    """Raises `ValueError` unless all of the libraries are installed."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"peers must be installed, {', '.join(missing)} are not: pip install 'glowjax[bench]'"
        )


# ----------------------------------------------------------------------------------------- JAX


def of_glowjax(kind: Kind, dims: int) -> Calls:
    """A flow of `MODELS`, whose splines have `BINS` bins by default."""
    flow = MODELS[kind](steps=LAYERS[kind], width=WIDTH, depth=DEPTH)
    model = glowjax.density(flow, (dims,))
    x = jax.random.normal(jax.random.key(1), (100, dims))
    params = jax.jit(model.init)(jax.random.key(0), x)
    return of_jax(model.log_prob, model.sample, params)


def of_flowjax(kind: Kind, dims: int) -> Calls:
    """`masked_autoregressive_flow` or `coupling_flow`."""
    import equinox
    import paramax
    from flowjax import bijections, distributions, flows

    base = distributions.Normal(jnp.zeros(dims))
    sizes = {"flow_layers": LAYERS[kind], "nn_width": WIDTH, "nn_depth": DEPTH, "base_dist": base}
    if kind == "maf":
        made = flows.masked_autoregressive_flow(jax.random.key(0), **sizes)
    else:
        spline = bijections.RationalQuadraticSpline(knots=BINS - 1, interval=5)
        made = flows.coupling_flow(
            jax.random.key(0), transformer=spline if kind == "spline" else None, **sizes
        )
    params, static = equinox.partition(
        made, equinox.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )

    def whole(params):
        return paramax.unwrap(equinox.combine(params, static))

    return of_jax(
        lambda params, x: whole(params).log_prob(x),
        lambda params, key, n: whole(params).sample(key, (n,)),
        params,
    )


def of_jax(log_prob, sample, params) -> Calls:
    """The calls of a density that pure functions make."""
    optimizer = optax.adam(RATE)
    state = (params, optimizer.init(params))

    def loss(params, x):
        return -jnp.mean(log_prob(params, x))

    @jax.jit
    def update(state, x):
        params, moments = state
        gradient = jax.grad(loss)(params, x)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    def step(x):
        nonlocal state
        state = jax.block_until_ready(update(state, x))

    def temporaries(x):
        analysis = jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis()
        return analysis.temp_size_in_bytes if analysis else None

    of_batch, drawn = jax.jit(log_prob), jax.jit(sample, static_argnums=2)
    return Calls(
        lambda x: jax.block_until_ready(of_batch(params, x)),
        step,
        lambda n: jax.block_until_ready(drawn(params, jax.random.key(2), n)),
        temporaries,
    )


# --------------------------------------------------------------------------------------- torch


def of_zuko(kind: Kind, dims: int) -> Calls:
    """`MAF`; in two passes it is a coupling. `NSF` likewise."""
    from zuko import flows

    sizes = {"features": dims, "transforms": LAYERS[kind], "hidden_features": [WIDTH] * DEPTH}
    if kind == "maf":
        model = flows.MAF(**sizes)
    elif kind == "spline":
        model = flows.NSF(**sizes, bins=BINS, passes=2)
    else:
        model = flows.MAF(**sizes, passes=2)
    return of_torch(model, lambda x: model().log_prob(x), lambda n: model().sample((n,)))


def of_nflows(kind: Kind, dims: int) -> Calls:
    """Its transforms, with a reversal after each."""
    from nflows import distributions, transforms
    from nflows.flows import Flow
    from nflows.utils.torchutils import create_mid_split_binary_mask
    from torch import nn

    class Net(nn.Sequential):
        def forward(self, x, context=None):
            return super().forward(x)

    def net(inputs, outputs):
        sizes = [inputs, *[WIDTH] * DEPTH]
        pairs = itertools.pairwise(sizes)
        hidden = [part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU())]
        return Net(*hidden, nn.Linear(WIDTH, outputs))

    def layer():
        mask = create_mid_split_binary_mask(dims)
        if kind == "maf":
            return transforms.MaskedAffineAutoregressiveTransform(
                dims, WIDTH, num_blocks=DEPTH - 1, use_residual_blocks=False
            )
        if kind == "affine":
            return transforms.AffineCouplingTransform(mask, net)
        return transforms.PiecewiseRationalQuadraticCouplingTransform(
            mask, net, num_bins=BINS, tails="linear", tail_bound=5.0
        )

    parts = [
        each for _ in range(LAYERS[kind]) for each in (layer(), transforms.ReversePermutation(dims))
    ]
    model = Flow(transforms.CompositeTransform(parts), distributions.StandardNormal([dims]))
    return of_torch(model, model.log_prob, model.sample)


def of_normflows(kind: Kind, dims: int) -> Calls:
    """Its flows, with its permutations after each."""
    import normflows
    from normflows import flows

    def layer():
        if kind == "maf":
            return flows.MaskedAffineAutoregressive(dims, WIDTH, num_blocks=DEPTH)
        if kind == "spline":
            return flows.CoupledRationalQuadraticSpline(
                dims, DEPTH, WIDTH, num_bins=BINS, tail_bound=5
            )
        sizes = [(dims + 1) // 2, *[WIDTH] * DEPTH, 2 * (dims // 2)]
        return flows.AffineCouplingBlock(normflows.nets.MLP(sizes, init_zeros=True))

    parts = [
        each for _ in range(LAYERS[kind]) for each in (layer(), flows.Permute(dims, mode="swap"))
    ]
    model = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dims), parts)
    return of_torch(model, model.log_prob, lambda n: model.sample(n)[0])


def of_torch(model, log_prob, sample) -> Calls:
    """The calls of a module of torch, on the GPU if torch sees one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

    def waited(result):
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    def without_gradient(call):
        with torch.no_grad():
            return waited(call())

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        (-log_prob(torch.as_tensor(x, device=device)).mean()).backward()
        optimizer.step()
        waited(None)

    return Calls(
        lambda x: without_gradient(lambda: log_prob(torch.as_tensor(x, device=device))),
        step,
        lambda n: without_gradient(lambda: sample(n)),
        lambda x: None,
    )


LIBRARIES: dict[str, Callable[[Kind, int], Calls]] = {
    "glowjax": of_glowjax,
    "flowjax": of_flowjax,
    "zuko": of_zuko,
    "nflows": of_nflows,
    "normflows": of_normflows,
}
