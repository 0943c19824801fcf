"""Options that suit a data set and this machine, and those of a trial run."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from glowjax.extras import extra
from glowjax.runs.config import Config
from glowjax.runs.models import FlowPP

SIDE = 64  # pixels of the longer side that a first run had better not exceed
LOOKED_AT = 1000  # images whose sizes are read
DECODED = 100  # images whose pixels are read
EXTREME = 0.25  # share of black and white numbers from which on a logit pays
EPOCHS = 50
SMOKE_STEPS = 20


class Facts(NamedTuple):
    """What is known of a data set's training images."""

    count: int
    sizes: list[tuple[int, int]]  # heights and widths, of the first images
    channels: int
    classes: int | None
    extreme: float  # share of their numbers that are 0 or 255, in the first images


def facts_of(name: str, data_dir: Path | None = None) -> Facts:
    """Prepares a data set where needed, and looks at its images.

    Raises:
        ValueError: as `glowjax.data.load`.
    """
    with extra("train", "glowjax suggest"):
        import PIL.Image

        from glowjax.data.images import decode, upright_size
        from glowjax.data.prepare import prepare, quiet
        from glowjax.data.stored import keys, undecoded

    with quiet():
        builder = prepare(name, data_dir=data_dir)
        features = builder.info.features
        key, label = keys(name, features)
        stored = undecoded(builder, "train", key)
    channels, sizes, extreme = features[key].shape[-1], [], []
    for i in range(min(len(stored), LOOKED_AT)):
        image = stored[i][key]
        if isinstance(image, bytes):
            with PIL.Image.open(io.BytesIO(image)) as picture:
                sizes.append(upright_size(picture))
        else:
            sizes.append(image.shape[:2])
        if i < DECODED:  # pixels take much longer than sizes
            pixels = decode(image, channels) if isinstance(image, bytes) else image
            extreme.append(np.isin(pixels, (0, 255)).mean())
    classes = features[label].num_classes if label else None
    return Facts(len(stored), sizes, channels, classes, float(np.mean(extreme)))


def suggest(facts: Facts, *, accelerator: bool | None = None) -> dict[str, Any]:
    """Options of `glowjax train glow_folder` for a first run on such images.

    Sides are at most 64 pixels and multiples of 2^levels, in the shape that most images have; the
    top latent has 2 to 7 pixels a side. On CPUs the nets are narrow. A logit comes first where a
    quarter of the numbers or more are black or white.

    Args:
        facts: of the data.
        accelerator: whether there is a GPU or TPU; default: as JAX finds.
    """
    if accelerator is None:
        accelerator = jax.default_backend() != "cpu"
    height, width = (sorted(side)[len(side) // 2] for side in zip(*facts.sizes, strict=True))
    scale = min(1.0, SIDE / max(height, width))
    shorter = max(4, round(min(height, width) * scale))
    levels = max(2, int(math.log2(shorter)) - 2)
    divisor = 2**levels
    size = tuple(max(divisor, round(side * scale / divisor) * divisor) for side in (height, width))
    fits = set(facts.sizes) == {size}
    model = (
        {"steps": 32, "width": 512, "dtype": "bfloat16"}
        if accelerator
        else {"steps": 8, "width": 64}
    )
    steps = min(50_000, max(2000, EPOCHS * facts.count // 64))
    return {
        "data.resize": None if fits else size,
        "model.levels": levels,
        **({"model.logit": 1e-5} if facts.extreme >= EXTREME else {}),
        **{f"model.{name}": value for name, value in model.items()},
        "train-steps": steps,
        "evaluate-every": max(1, steps // 10),
    }


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name}", *map(str, values)]
    return words


def smoke(config: Config) -> Config:
    """The config at a size that ends in about a minute on two cores: does everything work?"""
    model = config.model
    small = {"width": 8, "depth": 1, "blocks": 1, "heads": 2, "components": 2, "noise_steps": 1}
    small["steps"] = (1, 1, 1) if isinstance(model, FlowPP) else 2
    fields = {field.name for field in dataclasses.fields(model)}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(model, **{n: v for n, v in small.items() if n in fields}),
        optimizer=dataclasses.replace(config.optimizer, warmup_images=None),
        train_steps=SMOKE_STEPS,
        batch_size=min(config.batch_size, 16),
        log_every=SMOKE_STEPS // 2,
        evaluate_every=SMOKE_STEPS,
        evaluate_samples=1,
        sample_count=8,
    )
