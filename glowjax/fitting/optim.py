"""Optimisers: optax's own, the Adamax variant that Glow was trained with, and Muon beside it."""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from glowjax.checks import (
    BELOW_ONE,
    NON_NEGATIVE,
    POSITIVE,
    Interval,
    check_choice,
    check_in,
    require,
)

# Glow counts an "epoch" of this many images, whatever the data set.
_EPOCH_IMAGES = 50_000
_WARMUP_IMAGES = 10 * _EPOCH_IMAGES


def scale_by_glow_adamax(
    *, b1: float = 0.9, b2: float = 0.9898, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Rescale gradients as the Adamax of Glow's released code does.

    m_t = b1 m_{t-1} + (1 - b1) g_t,   u_t = max(b2 u_{t-1}, |g_t|),
    update_t = sqrt(1 - b2^t) / (1 - b1^t) * m_t / (u_t + eps),   t = 1, 2, ...

    The square root is Adam's correction; textbook Adamax (`optax.scale_by_adamax`) has none, so
    the first steps are smaller here: by sqrt(1 - b2) at t = 1.

    Raises:
      ValueError: b1 or b2 outside [0, 1), or eps negative.

    Source: Kingma & Ba (2015), section 7.1; Glow's released code for the square root.
    """
    check_in(BELOW_ONE, b1=b1, b2=b2)
    check_in(NON_NEGATIVE, eps=eps)

    def init(params):
        # Two trees of zeros: a buffer held twice could not be donated.
        mu, nu = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=mu, nu=nu)

    def update(updates, state, params=None):
        del params
        t = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_infinity_moment(updates, state.nu, b2, eps=0.0)
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        updates = jax.tree.map(lambda m, u: (correction * m / (u + eps)).astype(m.dtype), mu, nu)
        return updates, optax.ScaleByAdamState(count=t, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def warmup(
    peak: float,
    *,
    images: int,
    batch_size: int,
    then: Literal["constant", "cosine"] = "constant",
    total_steps: int | None = None,
) -> optax.Schedule:
    """Learning rate that rises linearly over the first images, then holds or decays.

    rate(step) = peak * min(1, n / images),   n = (step + 1) * batch_size

    n counts the batch of the step itself, so that the first step moves. (The released code counts
    only earlier batches: its ramp is one step behind this one, and its first step has rate 0.)
    With then="cosine", half a cosine leads from peak, at the end of warm-up, to 0 at total_steps.

    Args:
      peak: the highest learning rate.
      images: length of the warm-up in training images; 0 for none.
      batch_size: images a step, over all devices.
      then: what follows the warm-up.
      total_steps: length of training in steps, warm-up included; needed for "cosine" only.

    Raises:
      ValueError: an argument out of range, or no step left for the cosine.

    Source: Glow's released code (10 epochs of 50,000 images, then constant).
    """
    check_in(NON_NEGATIVE, peak=peak, images=images)
    check_in(Interval(1, math.inf, "low"), batch_size=batch_size)
    check_choice("then", then, ("constant", "cosine"))

    ramp = optax.linear_schedule(0.0, peak, images) if images else optax.constant_schedule(peak)

    def rise(step):
        return ramp((step + 1.0) * batch_size)  # in floats: int32 overflows on long runs

    if then == "constant":
        return rise
    warmup_steps = math.ceil(images / batch_size)
    if total_steps is None or total_steps <= warmup_steps:
        wanted = f"more than the {warmup_steps} steps of warm-up for a cosine decay"
        raise ValueError(f"total_steps must be {wanted}, got {total_steps!r}")
    fall = optax.cosine_decay_schedule(peak, total_steps - warmup_steps)
    return optax.join_schedules([rise, fall], [warmup_steps])


# How many axes of a kernel before its last, the outputs, are inputs: [..., height, width, in, out]
# of a convolution and [..., in, out] of a transformer's layers.
_INPUT_AXES = {
    **{f"['{name}']['weight']": 3 for name in ("conv1", "conv2")},
    **{f"['blocks']['{name}']['kernel']": 1 for name in ("qkv", "attended", "hidden", "mlp")},
}


def muon_input_axes(path: tuple[Any, ...]) -> int:
    """How many axes of a parameter at this path are inputs of a kernel for Muon; 0: it is none.

    Those are the weights of layers named conv1 and conv2, in Glow the first two of each coupling
    net, and of the blocks of transformers, stacked or not. The last layer of a net starts at zero,
    and Muon, whose steps do not shrink with the gradient, makes it unstable.
    """
    name = jax.tree_util.keystr(path)
    return next((axes for end, axes in _INPUT_AXES.items() if name.endswith(end)), 0)


def scale_by_muon() -> optax.GradientTransformation:
    """Makes the gradient of each kernel orthogonal, as Muon does.

    m_t = 0.95 m_{t-1} + 0.05 g_t,   update_t = 0.2 sqrt(max(a, b)) O(0.95 m_t + 0.05 g_t)

    where O takes kernels as matrices of a inputs in rows and b outputs in columns, and brings all
    their singular values near 1 by five steps of a Newton-Schulz iteration. (m_t and g_t are
    corrected for the start at zero, as in Adam.) So an entry of an update is about 0.2, whatever
    the shape, as it is with Adam.

    Source: Jordan et al. (2024), Muon; Liu et al. (2025), arXiv 2502.16982, for the scale.
    """

    with_paths = jax.tree_util.tree_map_with_path

    def matrix(path, _):
        inputs = tuple(range(-1 - muon_input_axes(path), -1))
        return optax.contrib.MuonDimensionNumbers(reduction_axis=inputs, output_axis=-1)

    def alike(path, update):  # an entry of an orthogonal matrix is about 1 / sqrt(max(a, b))
        *inputs, outputs = update.shape[-1 - muon_input_axes(path) :]
        return 0.2 * math.sqrt(max(math.prod(inputs), outputs)) * update

    orthogonal = optax.contrib.scale_by_muon(
        weight_dimension_numbers=functools.partial(with_paths, matrix)
    )
    scale = optax.stateless(lambda updates, _: with_paths(alike, updates))
    return optax.chain(orthogonal, scale)


_RULES = {
    "glow_adamax": scale_by_glow_adamax,
    "muon": scale_by_glow_adamax,  # of all but its kernels
    "adamax": optax.scale_by_adamax,
    "adam": optax.scale_by_adam,
    "adamw": optax.scale_by_adam,
}


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Which optimiser, with which numbers; the defaults are those Glow was trained with."""

    name: Literal["glow_adamax", "adamax", "adam", "adamw", "muon"] = "glow_adamax"
    """Update rule: Glow's variant of Adamax, or one of optax's. muon: Muon on the first two kernels
    of each convolutional coupling net and on those of the blocks of transformers, and Glow's
    variant of Adamax on all other parameters."""

    learning_rate: float = 1e-3
    """Highest learning rate, reached at the end of the warm-up; with muon, of Adamax."""

    muon_learning_rate: float | None = None
    """Highest learning rate of Muon's kernels, for muon only. None: 1e-3."""

    b1: float = 0.9
    """Decay of the gradient's running mean."""

    b2: float | None = None
    """Decay of the gradient's running scale. None: 1 - 1 / (steps per 50,000 images) for
    glow_adamax and muon, 0.999 for the others."""

    weight_decay: float | None = None
    """Decoupled weight decay, times the learning rate: for adamw, and for Muon's kernels. None:
    1e-4 for adamw, as in optax, and 0 for muon."""

    clip_norm: float | None = None
    """Clip gradients to this global norm. None: do not clip."""

    warmup_images: int | None = None
    """Images over which the learning rate rises from 0. None: 500,000, as in Glow's released code,
    but a tenth of the run's steps at most. That code counts 64 images a device and step, however
    few larger ones fit: its runs at 64x64 are 125,000 with b2 0.9898, and in general
    500,000 (32 / size)^2."""

    decay: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after the warm-up."""

    def __post_init__(self):
        check_choice("name", self.name, _RULES)
        check_in(NON_NEGATIVE, learning_rate=self.learning_rate)
        check_in(NON_NEGATIVE, optional=True, warmup_images=self.warmup_images)
        check_in(BELOW_ONE, b1=self.b1)
        check_in(BELOW_ONE, optional=True, b2=self.b2)
        check_in(NON_NEGATIVE, optional=True, weight_decay=self.weight_decay)
        require(
            self.weight_decay is None or self.name in ("adamw", "muon"),
            "weight_decay",
            self.weight_decay,
            f"None for {self.name} (adamw and muon alone decay weights)",
        )
        check_in(NON_NEGATIVE, optional=True, muon_learning_rate=self.muon_learning_rate)
        require(
            self.muon_learning_rate is None or self.name == "muon",
            "muon_learning_rate",
            self.muon_learning_rate,
            f"None for {self.name} (muon alone has it)",
        )
        check_in(POSITIVE, optional=True, clip_norm=self.clip_norm)
        check_choice("decay", self.decay, ("constant", "cosine"))


def make_optimizer(
    config: Optimizer, *, batch_size: int, total_steps: int | None = None
) -> optax.GradientTransformation:
    """The optax optimiser of a config: clipping, update rule, weight decay, learning rate.

    Args:
      config: which optimiser.
      batch_size: images a step, over all devices; sets the warm-up and glow_adamax's b2.
      total_steps: length of training in steps; needed for decay="cosine", and for a warm-up of a
        tenth of it.

    Raises:
      ValueError: as `learning_rate_schedule`; with muon, where it is initialised: no parameter is a
        kernel for it.
    """

    def downhill(peak):
        config_of_peak = replace(config, learning_rate=peak)
        run_length = {"batch_size": batch_size, "total_steps": total_steps}
        rate = learning_rate_schedule(config_of_peak, **run_length)
        return optax.scale_by_learning_rate(rate)

    last = downhill(config.learning_rate)
    rule = _RULES[config.name](b1=config.b1, b2=_second_decay(config, batch_size))
    stages: list[optax.GradientTransformation] = [rule, last]
    if config.name == "adamw":
        decay = 1e-4 if config.weight_decay is None else config.weight_decay
        stages.insert(1, optax.add_decayed_weights(decay))
    if config.name == "muon":
        peak = 1e-3 if config.muon_learning_rate is None else config.muon_learning_rate
        decayed = optax.add_decayed_weights(config.weight_decay or 0.0)
        rules: dict[Any, optax.GradientTransformation] = {
            "muon": optax.chain(scale_by_muon(), decayed, downhill(peak)),
            "others": optax.chain(*stages),
        }
        stages = [optax.partition(rules, _muon_or_others)]
    if config.clip_norm is not None:
        stages.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*stages)


def _muon_or_others(params):
    """Which rule each parameter gets, a tree like params."""

    def rule(path, _):
        return "muon" if muon_input_axes(path) else "others"

    rules = jax.tree_util.tree_map_with_path(rule, params)
    wanted = "another for a model without coupling nets of convolutions and without transformers"
    require("muon" in jax.tree.leaves(rules), "optimizer.name", "muon", wanted)
    return rules


def learning_rate_schedule(
    config: Optimizer, *, batch_size: int, total_steps: int | None = None
) -> optax.Schedule:
    """The learning rate of a config as a function of the step (0 is the first); see `warmup`.

    Raises:
      ValueError: a warm-up that leaves no step of the run for the cosine; else as `warmup`.
    """
    images = warmup_images(config, batch_size=batch_size, total_steps=total_steps)
    if config.decay == "cosine" and total_steps is not None:
        seen = total_steps * batch_size
        wanted = (
            f"at most {seen - batch_size:,}, for of train_steps={total_steps:,} one must be left to"
            " the cosine; None makes it a tenth of the steps at most"
        )
        require(images <= seen - batch_size, "optimizer.warmup_images", images, wanted)
    return warmup(
        config.learning_rate,
        images=images,
        batch_size=batch_size,
        then=config.decay,
        total_steps=total_steps,
    )


def warmup_images(config: Optimizer, *, batch_size: int, total_steps: int | None) -> int:
    """Training images over which the learning rate rises."""
    if config.warmup_images is not None:
        return config.warmup_images
    return at_most_a_tenth(_WARMUP_IMAGES, batch_size=batch_size, total_steps=total_steps)


def at_most_a_tenth(images: int, *, batch_size: int, total_steps: int | None) -> int:
    """A warm-up of `images`, or of a tenth of the steps where that is less; None: without end."""
    return images if total_steps is None else min(images, total_steps // 10 * batch_size)


def ema(average: Any, params: Any, step: jax.typing.ArrayLike, *, decay: float = 0.999) -> Any:
    """Exponential moving average of parameters: the average after one more step.

    average <- d average + (1 - d) params,   d = min(decay, (1 + step) / (10 + step))

    Early on d is small, so that the starting point is soon forgotten: start from the initial
    parameters. (`optax.ema` divides by 1 - decay^t instead: it averages updates, from zero.)

    Args:
      average: the average so far.
      params: the parameters after this step, a tree like `average`.
      step: steps averaged before this one: 0 at first.
      decay: d in the long run, in [0, 1).

    Raises:
      ValueError: decay outside [0, 1).
    """
    check_in(BELOW_ONE, decay=decay)
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # Not optax.incremental_update: its rounding moves parameters that are frozen.
    return jax.tree.map(lambda a, p: a + (1 - kept) * (p - a), average, params)


def _second_decay(config: Optimizer, batch_size: int) -> float:
    if config.b2 is not None:
        return config.b2
    if config.name in ("glow_adamax", "muon"):
        return 1 - 1 / math.ceil(_EPOCH_IMAGES / batch_size)
    return 0.999
