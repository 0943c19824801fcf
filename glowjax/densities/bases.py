"""Base distributions of latents: what a flow turns data into."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import draw_flat, promote, sum_event
from glowjax.checks import (
    POSITIVE,
    Interval,
    check_in,
    check_integer,
    check_labels,
    check_positive,
    is_known,
)
from glowjax.expression import expressed, recorded
from glowjax.nets.mlp import MLP


@expressed
class Base(NamedTuple):
    """A distribution of latents `z`, an array `[B, ...]` or a tuple of them.

        log_prob(params, z, context=None)                       -> [B], nats
        sample(params, key, like, temperature, context=None)    -> z of the shapes of `like`

    `init(key, z) -> params` is None where there is nothing to learn; then `params` is None too.
    A context is seen by a base that `takes_context`, and else by the flow alone. `spaces` names
    those of the columns of z, see `circular_base`; None: any.
    """

    log_prob: Callable[..., jax.Array]
    sample: Callable[..., Any]
    init: Callable[..., Any] | None = None
    takes_context: bool = True
    spaces: tuple[str, ...] | None = None


@recorded
def standard_normal() -> Base:
    """ln p(z) = -½ Σ (z² + ln 2π): N(0, I) over all latents; temperature T samples N(0, T²·I)."""

    def log_prob(_, z, context=None):
        return sum_leaves(lambda a: -0.5 * (jnp.square(a) + jnp.log(2 * jnp.pi)), z)

    def sample(_, key, like, temperature, context=None):
        return jax.tree.map(
            lambda k, a: temperature * draw_flat(jax.random.normal, k, a.shape, a.dtype),
            key_tree(key, like),
            like,
        )

    return Base(log_prob, sample, takes_context=False)


@recorded
def distrax_base(distribution: Any) -> Base:
    """A fixed distribution as a base; temperature scales samples around its mean.

        ln p(z) = distribution.log_prob(z)

    Above 1 it may take samples out of a bounded support.

    Args:
        distribution: of distrax, or of TensorFlow Probability on JAX.

    Raises:
        ValueError: `distribution` is none, or has a batch shape; z is not of its event shape; a
            temperature other than 1 where there is no mean.
    """
    import distrax

    try:
        distribution: Any = distrax.as_distribution(distribution)
    except TypeError as error:
        wanted = "a Base, or a distribution of distrax or of tensorflow_probability.substrates.jax"
        raise ValueError(f"base must be {wanted}, got {distribution!r}") from error
    if distribution.batch_shape:
        raise ValueError(
            f"base must have an empty batch shape, got {distribution.batch_shape}"
            " (distrax.Independent makes it an event shape)"
        )
    scalar = not distribution.event_shape

    def check(z):
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(z)]
        if not scalar and shapes != [tuple(distribution.event_shape)]:
            raise ValueError(
                f"base must have the event shape of z, {shapes}, got {distribution.event_shape}"
            )

    def log_prob(_, z, context=None):
        check(z)
        return sum_leaves(distribution.log_prob, z) if scalar else distribution.log_prob(z)

    def sample(_, key, like, temperature, context=None):
        check(like)

        def draw(k, a):
            shape = a.shape if scalar else a.shape[:1]
            x = distribution.sample(seed=k, sample_shape=shape).astype(a.dtype)
            if isinstance(temperature, float | int) and temperature == 1:
                return x  # not every distribution has a mean
            with jax.ensure_compile_time_eval():
                mean = distribution.mean()
            _check_mean(mean, temperature)
            return mean + temperature * (x - mean)

        return jax.tree.map(draw, key_tree(key, like), like)

    return Base(log_prob, sample, takes_context=False)


def _check_mean(mean: Any, temperature: Any) -> None:
    """Raises `ValueError` where a distribution has no mean, around which to scale samples."""
    if is_known(mean) and not np.all(np.isfinite(mean)):
        raise ValueError(f"temperature must be 1 for a base without a mean, got {temperature}")


@recorded
def logistic() -> Base:
    """The standard logistic, p(z) = σ(z)·σ(-z), of every latent; temperature scales samples."""
    import distrax

    return distrax_base(distrax.Logistic(0.0, 1.0))


@recorded
def uniform(low: float, high: float) -> Base:
    """The uniform density on [low, high] of every latent; log p = -inf outside.

    Temperature T, which elsewhere samples p^(1/T²) of a normal, changes nothing.

    Raises:
        ValueError: `low` is not below `high`.
    """
    import distrax

    check_in(Interval(-math.inf, math.inf), high=high)
    check_in(Interval(-math.inf, high), low=low)
    distribution = distrax.Uniform(float(low), float(high))
    base = distrax_base(distribution)

    def log_prob(_, z, context=None):
        return sum_leaves(lambda a: jnp.where(jnp.isnan(a), a, distribution.log_prob(a)), z)

    def sample(_, key, like, temperature, context=None):
        return base.sample(None, key, like, 1.0)

    return Base(log_prob, sample, takes_context=False)


@recorded
def student_t(df: float, *, learned: bool = False) -> Base:
    """Student's t with `df` degrees of freedom, of every latent; temperature scales samples.

        ln p(z) = c - ½(ν + 1) Σ ln(1 + z²/ν),   c such that p has mass 1

    Tails like |z|^-(df + 1), where a Lipschitz flow of normal latents has light ones.

    Args:
        df: ν, above 0.
        learned: ν = exp(log_df), one for every latent, with `df` at first.

    Raises:
        ValueError: `df` is not positive.

    Sources: Jaini et al. 2020, Tails of Lipschitz triangular flows; for one ν a latent, Liang et
    al. 2022, Fat-tailed variational inference with anisotropic tail adaptive flows.
    """
    check_in(POSITIVE, df=df)

    def init(key, z):
        return {"log_df": jax.tree.map(lambda a: jnp.full_like(promote(a[0]), jnp.log(df)), z)}

    def degrees(params):
        return jnp.exp(_vector(params["log_df"], lead=0)) if learned else df

    def log_prob(params, z, context=None):
        return jnp.sum(jax.scipy.stats.t.logpdf(_vector(z), degrees(params)), axis=-1)

    def sample(params, key, like, temperature, context=None):
        v = jax.random.t(key, degrees(params), *_vector_of(like))
        return _unvector(temperature * v, like)

    return Base(log_prob, sample, init if learned else None, takes_context=False)


@recorded
def diagonal_normal() -> Base:
    """N(mean, diag(std²)) over all latents, mean and std learned; N(0, I) at first.

        ln p(z) = -½ Σ ((z - mean)² / std² + ln(2π·std²)),   std = exp(log_std)

    Parameters: `mean` and `log_std`, each of the shapes of one event of z. Temperature T samples
    N(mean, T²·diag(std²)).
    """

    def init(key, z):
        return _zeros(z, ())

    def log_prob(params, z, context=None):
        return _normal(*_flat(params, lead=0)).log_prob(_vector(z))

    def sample(params, key, like, temperature, context=None):
        return _draw(key, *_flat(params, lead=0), temperature, like)

    return Base(log_prob, sample, init, takes_context=False)


@recorded
def class_conditional_normal(num_classes: int) -> Base:
    """N(mean_y, diag(std_y²)) over all latents, given the label y; N(0, I) at first.

        ln p(z|y) = -½ Σ ((z - mean_y)² / std_y² + ln(2π·std_y²)),   std = exp(log_std)

    Parameters: `mean` and `log_std`, of the shapes of one event of z after an axis of classes.
    Temperature scales around mean_y. The context is y, integers `[B]` in 0 … num_classes - 1; a
    flow that takes a context sees it too.

    Raises:
        ValueError: `num_classes` < 1; labels are missing, not integers, not of shape `[B]`, or out
            of range. Of these the last cannot raise under `jit`: there such a label gives NaN.

    Source: Izmailov et al. 2020, Semi-supervised learning with normalizing flows.
    """
    check_positive(num_classes=num_classes)

    def init(key, z):
        return _zeros(z, (num_classes,))

    def of_labels(params, labels, z):
        check_labels(labels, num_classes, jax.tree.leaves(z)[0].shape[0])
        valid = ((labels >= 0) & (labels < num_classes))[:, None]
        return (jnp.where(valid, p[labels], jnp.nan) for p in _flat(params, lead=1))

    def log_prob(params, z, context=None):
        return _normal(*of_labels(params, context, z)).log_prob(_vector(z))

    def sample(params, key, like, temperature, context=None):
        return _draw(key, *of_labels(params, context, like), temperature, like)

    return Base(log_prob, sample, init)


@recorded
def gaussian_mixture(components: int) -> Base:
    """A mixture of normals over all latents at once, all of it learned.

        p(z) = Σ_k π_k N(z; mean_k, diag(std_k²)),   π = softmax(logits), std = exp(log_std)

    Parameters: `logits` `[K]`; `mean` and `log_std`, of the shapes of one event of z after an axis
    of components. Means are drawn from N(0, I) at first, so that components differ; the rest is 0.
    Temperature scales around the mean of the component drawn. Gradients of samples reach means and
    stds, not the logits.

    Raises:
        ValueError: `components` < 1.
    """
    check_positive(components=components)

    def init(key, z):
        params = _zeros(z, (components,))
        mean = jax.tree.map(
            lambda k, a: draw_flat(jax.random.normal, k, a.shape, a.dtype),
            key_tree(key, params["mean"]),
            params["mean"],
        )
        logits = jnp.zeros(components, jax.tree.leaves(mean)[0].dtype)
        return {**params, "mean": mean, "logits": logits}

    def log_prob(params, z, context=None):
        import distrax

        choice = distrax.Categorical(params["logits"])
        return distrax.MixtureSameFamily(choice, _normal(*_flat(params, lead=1))).log_prob(
            _vector(z)
        )

    def sample(params, key, like, temperature, context=None):
        key, choice_key = jax.random.split(key)
        count = jax.tree.leaves(like)[0].shape[:1]
        k = jax.random.categorical(choice_key, params["logits"], shape=count)
        mean, log_std = _flat(params, lead=1)
        return _draw(key, mean[k], log_std[k], temperature, like)

    return Base(log_prob, sample, init, takes_context=False)


@recorded
def resampled_normal(
    *,
    tries: int = 100,
    draws: int = 4096,
    seed: int = 0,
    net: Callable[..., nn.Module] = MLP,
) -> Base:
    """N(0, I) over all latents, resampled by a learned acceptance probability a(z) = σ(net(z)).

        p(z) = N(z; 0, I)·((1 - α)·a(z) / Z + α),   Z = E[a(ε)], ε ~ N(0, I)

    with α = (1 - Z)^(tries - 1): the density of the first accepted of `tries - 1` proposals, or
    else of one more. It may have several modes, which no flow of a normal has without tearing.

    Z is the mean of a over `draws` fixed proposals, made from `seed`: log p is deterministic and
    differentiable, and there is no state. The relative standard error of Z is at most
    √((1 - Z) / (Z·draws)), which is the absolute error of log p while α is small. A large net might
    fit the fixed draws: another `seed` and more `draws` take the same parameters and show it.

    Samples need no Z and are exact. Temperature T proposes from N(0, T²·I). Gradients of samples
    do not reach the net.

    Args:
        tries: proposals a sample.
        draws: proposals that estimate Z, at every `log_prob`.
        seed: of those.
        net: makes a Linen module from `features=1`, called with `[B, D]`, all latents side by side.
            With the default a = ½ at first, and p is N(0, I).

    Raises:
        ValueError: `tries` < 2, `draws` < 1, or `seed` < 0.

    Sources: Bauer & Mnih 2019, Resampled priors for variational autoencoders; Stimper et al. 2022,
    Resampling base distributions of normalizing flows.
    """
    check_integer("tries", tries, 2)
    check_positive(draws=draws)
    check_integer("seed", seed, 0)
    acceptance = net(features=1)

    def init(key, z):
        return acceptance.init(key, _vector(z))["params"]

    def logit(params, v):
        logits: Any = acceptance.apply({"params": params}, v)
        return promote(logits)[..., 0]

    def log_mean(log_values):
        return jax.nn.logsumexp(log_values) - jnp.log(draws)

    def log_prob(params, z, context=None):
        v = _vector(z)
        proposals = jax.random.normal(jax.random.key(seed), (draws, v.shape[-1]), v.dtype)
        logits = logit(params, proposals)
        log_z = log_mean(jax.nn.log_sigmoid(logits))
        log_alpha = (tries - 1) * log_mean(jax.nn.log_sigmoid(-logits))
        accepted = jax.nn.log1mexp(-log_alpha) + jax.nn.log_sigmoid(logit(params, v)) - log_z
        return standard_normal().log_prob(None, v) + jnp.logaddexp(accepted, log_alpha)

    def sample(params, key, like, temperature, context=None):
        shape, dtype = _vector_of(like)

        def attempt(state, key):
            v, accepted = state
            proposal_key, key = jax.random.split(key)
            proposal = temperature * jax.random.normal(proposal_key, shape, dtype)
            v = jnp.where(accepted[:, None], v, proposal)
            u = jax.random.uniform(key, shape[:1], dtype)
            return (v, accepted | (u < jax.nn.sigmoid(logit(params, proposal)))), None

        start = jnp.zeros(shape, dtype), jnp.zeros(shape[:1], bool)
        (v, _), _ = jax.lax.scan(attempt, start, jax.random.split(key, tries))
        return _unvector(v, like)

    return Base(log_prob, sample, init, takes_context=False)


def _normal(mean, log_std):
    """N(mean, diag(std²)) over the last axis."""
    import distrax

    return distrax.Independent(distrax.Normal(mean, jnp.exp(log_std)), 1)


def _draw(key, mean, log_std, temperature, like):
    """Latents like `like` from N(mean, T²·diag(std²)), parameters `[D]` or `[B, D]`."""
    noise = jax.random.normal(key, *_vector_of(like))
    return _unvector(mean + temperature * jnp.exp(log_std) * noise, like)


def _zeros(z, lead):
    """`mean` and `log_std`, zero, of the shapes of one event of z after axes `lead`."""

    def zeros(a):
        return jnp.zeros((*lead, *a.shape[1:]), promote(a).dtype)

    return {"mean": jax.tree.map(zeros, z), "log_std": jax.tree.map(zeros, z)}


def _flat(params, lead):
    return _vector(params["mean"], lead), _vector(params["log_std"], lead)


def _vector(z, lead=1):
    """All arrays of z side by side, `[..., D]`, after `lead` axes that they share."""
    leaves = [promote(a) for a in jax.tree.leaves(z)]
    return jnp.concatenate([a.reshape(*a.shape[:lead], -1) for a in leaves], axis=-1)


def _vector_of(like):
    """Shape and dtype of `_vector(like)`, of which the values may be unknown."""
    vector = jax.eval_shape(_vector, like)
    return vector.shape, vector.dtype


def _unvector(v, like):
    """The inverse of `_vector`, with the shapes and dtypes of `like`."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([math.prod(a.shape[1:]) for a in leaves])[:-1]
    parts = jnp.split(v, ends, axis=-1)
    return structure.unflatten(
        [part.reshape(a.shape).astype(a.dtype) for part, a in zip(parts, leaves, strict=True)]
    )


def sum_leaves(log_prob: Callable[[Any], jax.Array], z: Any) -> Any:
    """A log-density of single numbers, summed over all latents of an example -> `[B]`."""
    return sum(sum_event(promote(log_prob(a))) for a in jax.tree.leaves(z))


def key_tree(key: jax.Array, tree: Any) -> Any:
    """A key for each array of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(list(jax.random.split(key, len(leaves))))
