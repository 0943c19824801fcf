"""Densities to fit, most of the plane and unnormalised, and integrals over a grid."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from glowjax.arrays import promote
from glowjax.checks import POSITIVE, check_choice, check_in, check_positive, require
from glowjax.expression import expressed, recorded


@expressed
class Target(NamedTuple):
    """A density p of the plane, or of more dimensions D, up to a constant.

        log_prob(x)    -> [B], nats, of x: [B, D]
        sample(key, n) -> [n, D], exact and independent; None where there is no simple way

    `extent`, (low, high) of both axes, is where to look at it.
    """

    log_prob: Callable[[Float[Array, "*B D"]], Float[Array, "*B"]]
    extent: tuple[float, float]
    sample: Callable[..., jax.Array] | None = None


@recorded
def energy(number: int, *, envelope: float | None = None) -> Target:
    """ln p = -U_number(z) + c, one of the four test energies of planar flows.

        U1 = ½((|z| - 2) / 0.4)² - ln(g(z1 - 2; 0.6) + g(z1 + 2; 0.6))
        U2 = ½((z2 - w1) / 0.4)²
        U3 = -ln(g(z2 - w1; 0.35) + g(z2 - w1 + w2; 0.35))
        U4 = -ln(g(z2 - w1; 0.4) + g(z2 - w1 + w3; 0.35))

    with g(a; s) = exp(-½(a/s)²), w1 = sin(2π·z1/4), w2 = 3·g(z1 - 1; 0.6) and
    w3 = 3·σ((z1 - 1) / 0.3). U2, U3 and U4 do not grow along z1: their integral over the plane is
    infinite, and a flow fitted to them spreads without end unless there is an envelope.

    Args:
        number: 1, 2, 3 or 4.
        envelope: r, for a further -½·(z1⁴ + z2⁴) / r⁴, all but 0 within r/2; None: as in the paper.

    Raises:
        ValueError: another number, or an envelope that is not positive.

    Source: Rezende & Mohamed 2015, table 1.
    """
    check_choice("number", number, (1, 2, 3, 4))
    check_in(POSITIVE, optional=True, envelope=envelope)

    def log_prob(x):
        x = promote(x)
        log_p = (_energy1, _energy2, _energy3, _energy4)[number - 1](x[..., 0], x[..., 1])
        return log_p if envelope is None else log_p - 0.5 * jnp.sum((x / envelope) ** 4, axis=-1)

    return Target(log_prob, (-4.0, 4.0))


def _energy1(z1, z2):
    sides = jnp.logaddexp(_bump(z1 - 2, 0.6), _bump(z1 + 2, 0.6))
    return _bump(_radius(z1, z2) - 2, 0.4) + sides


def _energy2(z1, z2):
    return _bump(z2 - _wave(z1), 0.4)


def _energy3(z1, z2):
    a = z2 - _wave(z1)
    return jnp.logaddexp(_bump(a, 0.35), _bump(a + 3 * jnp.exp(_bump(z1 - 1, 0.6)), 0.35))


def _energy4(z1, z2):
    a = z2 - _wave(z1)
    return jnp.logaddexp(_bump(a, 0.4), _bump(a + 3 * jax.nn.sigmoid((z1 - 1) / 0.3), 0.35))


def _wave(z1):
    return jnp.sin(2 * jnp.pi * z1 / 4)


def _bump(a, scale):
    """ln g(a; scale)."""
    return -0.5 * jnp.square(a / scale)


def _radius(z1, z2):
    """|z|, with derivative 0 rather than NaN at the origin."""
    square = jnp.square(z1) + jnp.square(z2)
    inside = square > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1.0)), 0.0)


@recorded
def two_modes(loc: float = 2.0, scale: float = 0.1) -> Target:
    """Two arcs of a circle of radius `loc`, around (±loc, 0).

        ln p = -½((|z| - loc) / 2s)² + ln(g(z1 - loc; 3s) + g(z1 + loc; 3s)) + c,   s = scale

    with g(a; s) = exp(-½(a/s)²). At scale 0.2, U1 of `energy`; at 0.1, normflows' planar example.

    Raises:
        ValueError: `loc` or `scale` is not positive.

    Source: Stimper et al. 2023, normflows, distributions/prior.py.
    """
    check_in(POSITIVE, loc=loc, scale=scale)

    def log_prob(x):
        z1, z2 = _coordinates(x)
        sides = jnp.logaddexp(_bump(z1 - loc, 3 * scale), _bump(z1 + loc, 3 * scale))
        return _bump(_radius(z1, z2) - loc, 2 * scale) + sides

    reach = loc + max(8 * scale, 0.25 * loc)
    return Target(log_prob, (-reach, reach))


@recorded
def circular_gaussians(
    modes: int = 8, *, radius: float = 2.0, scale: float | None = None
) -> Target:
    """Equal normals around a circle; normalised, with samples.

        p = 1/K · Σ_k N(radius·(cos 2πk/K, sin 2πk/K), scale²·I),   K = modes

    Args:
        scale: by default a third of half the distance between neighbours, radius/3·sin(π/K), and
            radius/3 of a single mode.

    Raises:
        ValueError: `modes` < 1, or `radius` or `scale` is not positive.

    Source: Stimper et al. 2022, Resampling base distributions of normalizing flows.
    """
    check_positive(modes=modes)
    check_in(POSITIVE, radius=radius)
    check_in(POSITIVE, optional=True, scale=scale)
    if scale is None:
        scale = radius / 3 * (math.sin(math.pi / modes) if modes > 1 else 1.0)
    angles = 2 * np.pi * np.arange(modes) / modes
    means = radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    def log_prob(x):
        x = promote(x)[..., None, :]
        return jax.nn.logsumexp(norm.logpdf(x, means, scale).sum(-1), axis=-1) - math.log(modes)

    def sample(key, n):
        check_positive(n=n)
        key, mode_key = jax.random.split(key)
        mode = jax.random.randint(mode_key, (n,), 0, modes)
        return jnp.asarray(means)[mode] + scale * jax.random.normal(key, (n, 2))

    reach = radius + 5 * scale
    return Target(log_prob, (-reach, reach), sample)


@recorded
def ring_mixture(rings: int = 2) -> Target:
    """Rings around the origin, alike in height, the outermost of radius 2.

        ln p = ln Σ_i g(|z| - 2i/K; 1/4K) + c,   i = 1 … K = rings

    with g(a; s) = exp(-½(a/s)²).

    Raises:
        ValueError: `rings` < 1.

    Source: Stimper et al. 2022, Resampling base distributions of normalizing flows.
    """
    check_positive(rings=rings)
    radii, scale = 2 * np.arange(1, rings + 1) / rings, 1 / (4 * rings)

    def log_prob(x):
        radius = _radius(*_coordinates(x))
        return jax.nn.logsumexp(_bump(radius[..., None] - radii, scale), axis=-1)

    reach = 2 + 4 * scale
    return Target(log_prob, (-reach, reach))


@recorded
def banana(*, bend: float = 0.5, noise: float = 0.3) -> Target:
    """A bent normal, normalised, with samples.

        p(x) = N(x1; 0, 1)·N(x2; bend·(x1² - 1), noise²)

    Its level sets are those of Rosenbrock's valley; the mean is 0.

    Raises:
        ValueError: `noise` is not positive.

    Source: Haario et al. 1999, Adaptive proposal distribution for random walk Metropolis.
    """
    check_in(POSITIVE, noise=noise)

    def log_prob(x):
        x1, x2 = _coordinates(x)
        return norm.logpdf(x1) + norm.logpdf(x2, bend * (jnp.square(x1) - 1), noise)

    def sample(key, n):
        check_positive(n=n)
        x1, e = jax.random.normal(key, (2, n))
        return jnp.stack([x1, bend * (jnp.square(x1) - 1) + noise * e], axis=-1)

    reach = max(3.5, 5.5 * abs(bend) + 3 * noise)
    return Target(log_prob, (-reach, reach), sample)


@recorded
def funnel(*, std: float = 3.0) -> Target:
    """Neal's funnel, normalised, with samples.

        p(x) = N(x1; 0, std²)·N(x2; 0, exp(x1))

    Raises:
        ValueError: `std` is not positive.

    Source: Neal 2003, Slice sampling, section 8, of ten dimensions there.
    """
    check_in(POSITIVE, std=std)

    def log_prob(x):
        x1, x2 = _coordinates(x)
        return norm.logpdf(x1, 0, std) + norm.logpdf(x2 * jnp.exp(-x1 / 2)) - x1 / 2

    def sample(key, n):
        check_positive(n=n)
        x1, e = jax.random.normal(key, (2, n))
        return jnp.stack([std * x1, jnp.exp(std * x1 / 2) * e], axis=-1)

    return Target(log_prob, (-3 * std, 3 * std), sample)


@recorded
def many_wells(pairs: int = 4) -> Target:
    """Products of double wells: 2^pairs modes in 2·pairs dimensions, unnormalised, with samples.

        ln p̃(x) = Σ ½·x1 + 6·x1² - x1⁴ - ½·x2², over the pairs (x1, x2) side by side

    For each pair ln Z = ln 11784.509 + ½·ln 2π. Samples of x1 are exact up to a grid of width 10⁻⁴.

    Raises:
        ValueError: `pairs` is not positive.

    Source: Noé et al. 2019, Boltzmann generators; Midgley et al. 2023, section 4.2.
    """
    check_positive(pairs=pairs)

    def log_well(x1):
        return 0.5 * x1 + 6 * jnp.square(x1) - jnp.square(jnp.square(x1))

    def log_prob(x):
        x = promote(x)
        require(x.shape[-1] == 2 * pairs, "x", x.shape, f"of shape [..., {2 * pairs}]")
        return jnp.sum(log_well(x[..., ::2]) - 0.5 * jnp.square(x[..., 1::2]), axis=-1)

    def sample(key, n):
        check_positive(n=n)
        keys = jax.random.split(key)
        places = jnp.linspace(-4, 4, 80_001)
        below = jnp.cumsum(jnp.exp(log_well(places) - log_well(places).max()))
        uniform = jax.random.uniform(keys[0], (n, pairs), maxval=below[-1])
        x1 = jnp.take(places, jnp.searchsorted(below, uniform))
        return jnp.stack([x1, jax.random.normal(keys[1], (n, pairs))], -1).reshape(n, 2 * pairs)

    return Target(log_prob, (-3.0, 3.0), sample)


def _coordinates(x):
    x = promote(x)
    return x[..., 0], x[..., 1]


class GridKL(NamedTuple):
    """KL(q‖p) in nats, and the mass of q that the grid leaves out: if not near 0, trust neither."""

    kl: Float[Array, ""]
    outside: Float[Array, ""]


def grid(extent: tuple[float, float], points: int) -> tuple[Float[Array, "{points}**2 2"], float]:
    """Midpoints of the cells of a square, `[points², 2]`, and the area of a cell.

    Row by row: x1 runs fastest, and x2 rises.

    Raises:
        ValueError: `extent` is not (low, high) with low < high, or `points` < 1.
    """
    check_positive(points=points)
    ok = isinstance(extent, tuple | list) and len(extent) == 2 and extent[0] < extent[1]
    require(ok, "extent", extent, "(low, high) with low < high")
    low, high = extent
    width = (high - low) / points
    axis = low + width * (jnp.arange(points) + 0.5)
    x1, x2 = jnp.meshgrid(axis, axis)
    return jnp.stack([x1, x2], axis=-1).reshape(-1, 2), width**2


def grid_log_normalizer(target: Target, points: int = 400) -> Float[Array, ""]:
    """ln Z = ln ∫ p over the target's extent, in nats, by the midpoint rule on points² cells.

    Raises:
        ValueError: as `grid`.
    """
    x, area = grid(target.extent, points)
    return jax.nn.logsumexp(target.log_prob(x)) + math.log(area)


def grid_kl(
    log_q: Callable[[Float[Array, "B 2"]], Float[Array, "B"]], target: Target, points: int = 400
) -> GridKL:
    """KL(q‖p) = ∫ q·(ln q - ln p) over the target's extent, by the midpoint rule on points² cells.

    p is normalised over the extent, as `grid_log_normalizer` does. For an extent of your own:
    `target._replace(extent=(low, high))`.

    Args:
        log_q: ln of a normalised density, from `[B, 2]` to `[B]`, nats.

    Raises:
        ValueError: as `grid`.
    """
    x, area = grid(target.extent, points)
    at_q, at_p = log_q(x), target.log_prob(x)
    log_z = jax.nn.logsumexp(at_p) + math.log(area)
    q = jnp.exp(at_q) * area
    kl = jnp.sum(jnp.where(q > 0, q * (at_q - at_p + log_z), 0.0))
    return GridKL(kl, 1 - jnp.sum(q))
