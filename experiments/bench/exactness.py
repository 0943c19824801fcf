"""How exactly Glow inverts, in float32: drawn weights at full size, or a run's trained weights."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from glowjax.runs.loading import restore
from glowjax.runs.models import Glow
from glowjax.runs.sources import load_split
from glowjax.runs.steps import make_trainer

BATCH = 500  # images at once


def main(
    run: Path | None = None,
    *,
    images: int = 64,
    temperature: float = 1.0,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> None:
    """Prints the errors of x→z→x and z→x→z, and whether 8-bit images come back bit-exact.

    Args:
        run: a run's folder; without, Glow of L=3, K=32, width 512 on noise images of 32×32×3.
        images: how many are encoded and decoded.
        temperature: of the latents in z→x→z.
        dtype: of the nets of a run, instead of the one they were trained in.
    """
    if run is not None:
        trained(run, images, temperature, dtype)
        return
    for std in (0.05, 0.02, 0.005, 0.002):
        drawn(std, images, temperature)


def drawn(std: float, images: int, temperature: float) -> None:
    """Last convolutions drawn from N(0, std²) before the data-dependent initialisation."""
    flow = glowjax.glow(output_init=jax.nn.initializers.normal(std))
    model = glowjax.density(flow, (32, 32, 3))
    v = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    x = glowjax.bin_centres(v)
    params = jax.jit(model.init)(jax.random.key(0), x)
    report(f"L=3 K=32 width 512, N(0, {std}²)", model, params, v, 256, temperature)


def trained(folder: Path, images: int, temperature: float, dtype: str | None) -> None:
    """The best weights of a run on its test images."""
    run, params, step, _ = restore(folder)
    if not isinstance(run.config.model, Glow):
        raise ValueError(f"run must be one of Glow, got {run.config.model.kind}")
    kind = replace(run.config.model, dtype=dtype or run.config.model.dtype)
    model = make_trainer(replace(run.config, model=kind), **run.images).density
    source = load_split(run.config, "test")
    v = run.config.data.transform(source.images[np.arange(images)])
    labels = source.labels[np.arange(images)] if run.conditional else None
    name = f"{folder}, step {step}, nets in {kind.dtype}"
    report(name, model, params, v, run.levels, temperature, labels)


def report(name, model, params, v, levels, temperature, context=None) -> None:
    @jax.jit
    def measure(params, v, key, context):
        x = glowjax.bin_centres(v, levels=levels)
        z = model.encode(params, x, context)
        back = model.decode(params, z, context)
        leaves, structure = jax.tree.flatten(z)
        keys = jax.random.split(key, len(leaves))
        drawn = structure.unflatten(
            [temperature * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
        )
        sampled = model.decode(params, drawn, context)
        again = model.encode(params, sampled, context)
        error = jnp.concatenate([abs(a - b).ravel() for a, b in zip(drawn, again, strict=True)])
        same = jnp.all(glowjax.quantize(back, levels=levels) == v, axis=(1, 2, 3))
        log_prob = model.log_prob(params, x, context)
        return jnp.max(abs(back - x)), jnp.max(error), jnp.sum(same), jnp.sum(log_prob)

    parts = [slice(i, i + BATCH) for i in range(0, len(v), BATCH)]
    results = [
        measure(params, v[p], jax.random.key(1 + i), None if context is None else context[p])
        for i, p in enumerate(parts)
    ]
    x_errors, z_errors, same, log_probs = np.array(jax.device_get(results)).T
    print(
        f"{name}: x→z→x {x_errors.max():.1e}, z→x→z {z_errors.max():.1e} (temperature"
        f" {temperature:g}), {same.sum():,.0f} of {len(v):,} images bit-exact,"
        f" log p {log_probs.sum() / v.size:+.2f} nats/dim, {jax.devices()[0].device_kind}"
    )
