"""What each flow does to a grid of the plane: the pictures of the catalogue.

    python -m experiments.grids

On the left of each picture is a square grid of data x, with grey ink spread evenly over it. On the
right is where `forward` takes it, the latents z. The ink is neither lost nor gained: it gets pale
where the flow stretches and dark where it squeezes, by the factor 1 / |det J|. The parameters are
chosen, or drawn at random, so that one sees what kind of map a flow is. Nothing is trained.

The figures compare two areas of the bent grid: the sum of its cells as polygons, and what the
log-determinants say. They are the first over the second.

Time: 30 s on 2 CPU cores.
Expected: 1 within 0.02 for every flow.
Source: the papers of the flows, which docs/catalogue.md lists.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import glowjax
from experiments import common
from glowjax import preprocess
from glowjax.plots.style import BLUE, INK, RED, save

Map = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
LINES = 11  # of the grid, in each direction
SHOWN = 4.0  # the latents are shown from -SHOWN to SHOWN
GREY, DARKEST = 0.2, 0.8  # the ink on the left, and the most on the right


class Given(nn.Module):
    """A conditioner or a velocity that is a given function, in place of a net."""

    features: int
    function: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)


class Bent(NamedTuple):
    """A mesh of data x and its latents z, `[n, n, 2]`, and log_det `[n, n]`; NaN where p(x) = 0."""

    x: np.ndarray
    z: np.ndarray
    log_det: np.ndarray


def given(function: Callable[[jax.Array], jax.Array]) -> Callable[..., nn.Module]:
    """What makes `Given`, as flows ask for their nets."""
    return functools.partial(Given, function=function)


def waves(
    middle: Sequence[float], size: Sequence[float], ahead: float = 0.0, pace: float = 1.5
) -> Callable[..., nn.Module]:
    """A conditioner whose outputs are sine waves, each `ahead` of the one before."""
    m, s, start = jnp.array(middle), jnp.array(size), ahead * jnp.arange(len(size))
    return given(lambda x: m + s * jnp.sin(pace * x + start))


def coupling(transform: glowjax.Elementwise, net: Callable[..., nn.Module]) -> Map:
    """The `forward` of a coupling, whose net has no parameters."""
    return plain(glowjax.as_flow(glowjax.Coupling(transform, net)))


def plain(flow: glowjax.Flow) -> Map:
    """The `forward` of a flow that has no parameters."""
    return functools.partial(flow.forward, {})


def drawn(flow: glowjax.Flow, seed: int, deviation: float) -> Map:
    """The `forward` of a flow, with normal noise added to the parameters that it starts with."""

    def forward(x):
        params = flow.init(jax.random.key(seed), x)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        noisy = [
            leaf + deviation * jax.random.normal(key, leaf.shape)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return flow.forward(jax.tree.unflatten(tree, noisy), x)

    return forward


def whirl(x_and_time: jax.Array) -> jax.Array:
    """A velocity that turns the middle of the plane, and draws it together."""
    x = x_and_time[:, :2]
    turn = jnp.array([[-0.7, 2.2], [-2.2, -0.7]])
    return x @ turn * jnp.exp(-jnp.sum(jnp.square(x), axis=-1, keepdims=True) / 3)


def residual(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = x + g(x), where g stretches no distance by more than 0.84."""

    def g(x):
        return 0.6 * jnp.sin(1.4 * x[:, ::-1])

    return x + g(x), glowjax.residual_log_det(g, x)


def stick_breaking(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Three parts of a whole, of which x `[B, 2]` are the first two."""
    parts = jnp.concatenate([x, 1 - x.sum(axis=-1, keepdims=True)], axis=-1)
    return preprocess.stick_breaking().forward({}, parts)


def maps() -> dict[str, tuple[Map, tuple[float, float]]]:
    """Name of the picture -> the map, and the ends of the grid of data along both axes."""
    array, as_flow = jnp.array, glowjax.as_flow
    affine = waves([0.0, 0.0], [0.8, 0.6], ahead=1.5)
    spline = waves([0.0] * 8, [0.0, 0.0, 0.0, 0.9, 0.0, -0.9, 0.8, -0.8])
    mixture = waves([0.0, 0.0, -0.8, 0.8, -1.0, -1.0], [0.9, -0.9, 0.3, 0.3, 0.0, 0.0])
    circular = waves([0.0] * 10, [0.0, 0.9, -0.9, 0.6, -0.5, 0.9, 0.6, 0.8, -0.8, 0.5], 0.4, 1.0)
    bernstein = waves([0.0] * 7, [0.3, 0.0, 2.0, -2.0, -2.0, 2.0, 0.0])
    squares = waves([0.0] * 6, [0.6, 0.2, 0.5, 0.1, 0.2, 0.0])
    sigmoidal = waves([0.3] * 2 + [-0.3] * 2 + [0.0] * 14, [0.0] * 4 + [1.5, -1.5] + [0.0] * 12)
    umnn = waves([0.0, -0.1, 0.4, -0.4] + [1.0] * 2 + [0.0] * 2, [0.3] + [0.0] * 5 + [0.4] * 2)
    smooth = functools.partial(glowjax.MADE, activation="silu")
    autoregressive = as_flow(glowjax.Autoregressive(glowjax.affine(bound=1.0), smooth))
    clumps = {"raw": array([[0.0, 0.0, -0.7, 0.7, -0.5, -0.5]] * 2)}
    gaussianize = as_flow(glowjax.MarginalGaussianization(2))
    turn = as_flow(glowjax.InvertibleConv1x1("rotation"))
    gaussianization = glowjax.chain(gaussianize, turn, gaussianize)
    turned = clumps, {"rotation": array([-0.4])}, clumps
    planar = {"u": array([-1.6, 0.6]), "w": array([1.6, 0.8]), "b": array(-0.4)}
    radial = {"centre": array([0.5, 0.5]), "raw_alpha": array(0.5), "raw_beta": array(2.0)}
    sylvester = {
        "reflections": array([[1.0, 0.4], [0.0, 1.0]]),
        "packed": array([[1.3, -0.7, 0.3], [0.3, 1.3, -0.7]]),
        "bias": array([0.5, -0.5]),
    }
    flows = {
        "actnorm": lambda x: glowjax.actnorm_forward(x, array([0.3, -0.7]), array([0.2, 0.8])),
        "conv1x1": lambda x: glowjax.conv1x1_forward(x, array([[0.9, 0.6], [-0.4, 0.8]])),
        "householder": lambda x: glowjax.householder_forward(x, array([[0.5, -0.9]])),
        "additive": coupling(glowjax.additive(), waves([0.0], [1.0])),
        "affine": coupling(glowjax.affine(), affine),
        "spline": coupling(glowjax.rational_quadratic(3, bound=2.0), spline),
        "mixture_cdf": coupling(glowjax.mixture_cdf(2), mixture),
        "bernstein": coupling(glowjax.bernstein(6, bound=2.5), bernstein),
        "sum_of_squares": coupling(glowjax.sum_of_squares(2, bound=2.5), squares),
        "deep_sigmoidal": coupling(glowjax.deep_sigmoidal(2), sigmoidal),
        "unconstrained_monotonic": coupling(
            glowjax.unconstrained_monotonic(2, bound=2.5, steepness=6.0), umnn
        ),
        "maf": drawn(autoregressive, 0, 0.07),
        "iaf": drawn(glowjax.invert(autoregressive), 0, 0.07),
        "block_autoregressive": drawn(as_flow(glowjax.BlockAutoregressive(width=4)), 1, 0.5),
        "gaussianization": functools.partial(gaussianization.forward, turned),
        "planar": lambda x: glowjax.planar_forward(x, **planar),
        "radial": lambda x: glowjax.radial_forward(x, **radial),
        "sylvester": lambda x: glowjax.sylvester_forward(x, **sylvester),
        "residual": residual,
        "continuous": plain(as_flow(glowjax.Continuous(given(whirl)))),
        "ordered": plain(preprocess.ordered()),
    }
    angles = {"circular": coupling(glowjax.circular_spline(3), circular)}
    bounded = {"sigmoid": plain(preprocess.sigmoid(0, 1)), "stick_breaking": stick_breaking}
    of_flows = {name: (forward, (-2.5, 2.5)) for name, forward in flows.items()}
    of_flows |= {name: (forward, (-3.14, 3.14)) for name, forward in angles.items()}
    return of_flows | {name: (forward, (0.02, 0.98)) for name, forward in bounded.items()}


def bent(forward: Map, ends: tuple[float, float], parts: int) -> Bent:
    """A mesh, in which `parts` steps lead from a line of the grid to the next, and its latents."""
    axis = jnp.linspace(*ends, parts * (LINES - 1) + 1)
    x = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    z, log_det = jax.jit(forward)(x.reshape(-1, 2))
    found = Bent(np.array(x), np.array(z).reshape(x.shape), np.array(log_det).reshape(x.shape[:2]))
    outside = np.isneginf(found.log_det)
    for array in found:
        array[outside] = np.nan
    return found


def areas(mesh: np.ndarray) -> np.ndarray:
    """The areas of the cells of a mesh, `[n - 1, n - 1]`, from their diagonals."""
    one, other = mesh[1:, 1:] - mesh[:-1, :-1], mesh[1:, :-1] - mesh[:-1, 1:]
    return np.abs(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]) / 2


def stretch(log_det: np.ndarray) -> np.ndarray:
    """|det J| in the cells of a mesh, `[n - 1, n - 1]`: the mean of the four corners."""
    det = np.exp(log_det)
    return (det[1:, 1:] + det[:-1, :-1] + det[1:, :-1] + det[:-1, 1:]) / 4


def draw(axes, mesh: np.ndarray, ink: np.ndarray, title: str) -> None:
    """The ink in the cells, the lines x₁ = const in blue, and the lines x₂ = const in red."""
    corners = np.nan_to_num(np.moveaxis(mesh, -1, 0))  # where the ink is NaN, nothing is drawn
    axes.pcolormesh(*corners, ink, cmap="Greys", vmin=0, vmax=1)
    step = (len(mesh) - 1) // (LINES - 1)
    across, along = mesh[:, ::step].swapaxes(0, 1), mesh[::step]
    for lines, colour in ((along, RED), (across, BLUE)):
        axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=0.9))
    axes.set_aspect("equal")
    axes.set_title(title, color=INK, fontsize=10)
    axes.tick_params(colors=INK, labelsize=8)
    axes.locator_params(nbins=4)
    axes.spines[:].set_color("#cccccc")


def picture(found: Bent, ends: tuple[float, float]) -> Figure:
    """The grid of data beside the grid of latents; ink is per area of the paper."""
    figure = Figure((5.6, 2.9), 150, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    middle, half = (ends[1] + ends[0]) / 2, 0.8 * (ends[1] - ends[0])
    det = stretch(found.log_det) * (half / SHOWN) ** 2
    draw(left, found.x, GREY + 0 * det, "data x")
    draw(right, found.z, np.clip(GREY / det, 0, DARKEST), "latents z = f(x)")
    left.set(xlim=(middle - half, middle + half), ylim=(middle - half, middle + half))
    right.set(xlim=(-SHOWN, SHOWN), ylim=(-SHOWN, SHOWN))
    return figure


def main(run: common.Run) -> common.Figures:
    """Draws a picture of each flow, and measures the area of its bent grid."""
    figures: common.Figures = {}
    for name, (forward, ends) in maps().items():
        found = bent(forward, ends, run.size(20, 2))
        save(picture(found, ends), run.folder / f"{name}.png")
        by_log_det = stretch(found.log_det) * areas(found.x)
        figures[name] = float(np.nansum(areas(found.z)) / np.nansum(by_log_det))
    return figures


if __name__ == "__main__":
    common.run(main)
