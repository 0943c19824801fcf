"""Writes a trained model as a folder to hand on: weights, config, programs and a card.

`glowjax.runs.exported` says what is in it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import glowjax
from glowjax.checks import check_choice, require
from glowjax.files import write_whole
from glowjax.runs.checkpoints import Which
from glowjax.runs.exported import WEIGHTS, flat, like
from glowjax.runs.folder import CONFIG, about_run
from glowjax.runs.loading import restore
from glowjax.runs.results import kept_results
from glowjax.runs.trained import ImageModel

PLATFORMS = ("cpu", "cuda")
Stored = Literal["float32", "float16"]


def export(
    run_dir: Path,
    out: Path,
    *,
    checkpoint: Which | int = "best",
    weights: str | None = None,
    license: str = "other",
    programs: bool = True,
    dtype: Stored = "float32",
) -> None:
    """Writes a run's model into a new or empty folder, see above.

    Args:
        run_dir: of the run.
        out: the folder.
        checkpoint, weights: as for `load`.
        license: of the weights, as the Hugging Face Hub names licences.
        programs: whether to compile the programs.
        dtype: of the stored weights of the nets, nearly all of the file; the rest is in float32.
            `load` and the programs compute in float32 either way.

    Raises:
        ValueError: the run cannot be read; the folder holds something already; a weight is too
            large for float16.
    """
    check_choice("dtype", dtype, get_args(Stored))
    out = Path(out)
    wanted = "a new or empty folder"
    require(not out.exists() or (out.is_dir() and not any(out.iterdir())), "out", str(out), wanted)
    model, params, step, weights = restore(run_dir, checkpoint, weights)
    here = dataclasses.replace(model.config.data, data_dir=None, archives=None)  # not elsewhere
    config = dataclasses.replace(model.config, data=here)
    about = about_run(config, model.images, model.class_names)
    arrays = {name: _stored(name, np.asarray(array), dtype) for name, array in flat(params).items()}
    content = safetensors.numpy.save(arrays, metadata={"format": "glowjax"})
    about |= {"glowjax": glowjax.__version__, "step": step, "weights": weights}
    about |= {"weights_sha256": hashlib.sha256(content).hexdigest()}
    files = _programs(model, params, arrays) if programs else {}
    card = _card(model, about, kept_results(run_dir), arrays, license, out.name, programs)
    out.mkdir(parents=True, exist_ok=True)
    for name, program in files.items():
        write_whole(out / f"{name}.stablehlo", program)
    write_whole(out / "README.md", card)
    write_whole(out / CONFIG, json.dumps(about, indent=2) + "\n")
    write_whole(out / WEIGHTS, content)  # last: what makes the folder an exported model


def _stored(name: str, array: np.ndarray, dtype: Stored) -> np.ndarray:
    # Rounding MNIST's ActNorms to float16 costs 0.014 bits/dim, and its nets 0.0002.
    if "net" not in name.split("."):
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    lost = array[np.isfinite(array) & ~np.isfinite(stored)]
    if lost.size:
        require(False, "dtype", dtype, f"float32 for this model: an entry of {name} is {lost[0]:g}")
    return stored


def _programs(model: ImageModel, params: Any, arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Serialised programs of any batch, functions of the arrays of model.safetensors."""
    (batch,) = jax.export.symbolic_shape("b")
    weights = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}
    images = jax.ShapeDtypeStruct((batch, *model.image_shape), jnp.uint8)
    labels = (jax.ShapeDtypeStruct((batch,), jnp.int32),) * model.conditional
    seed, seeds = (jax.ShapeDtypeStruct(shape, jnp.uint32) for shape in ((), (batch,)))
    temperature = jax.ShapeDtypeStruct((), jnp.float32)

    def whole(weights):
        """The parameters in the dtype that the model computes with."""
        return jax.tree.map(lambda p, w: w.astype(p.dtype), params, like(params, weights))

    def log_prob(weights, images, seed, *labels):
        return model.log_prob(whole(weights), images, jax.random.key(seed), *labels)

    def encode(weights, images, *labels):
        return model.encode(whole(weights), images, *labels)

    def sample(weights, seeds, temperature, *labels):  # a seed an image, whatever the others
        def draw(level, like):
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), level))(seeds)
            return temperature * jax.vmap(lambda k: jax.random.normal(k, like.shape[1:]))(keys)

        leaves, structure = jax.tree.flatten(latents)
        z = structure.unflatten(draw(level, like) for level, like in enumerate(leaves, 1))
        return model.decode(whole(weights), z, *labels)

    latents = jax.eval_shape(encode, weights, images, *labels)
    programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "log_prob": (log_prob, (weights, images, seed, *labels)),
        "encode": (encode, (weights, images, *labels)),
        "sample": (sample, (weights, seeds, temperature, *labels)),
    }
    exported = {
        name: jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
        for name, (function, arguments) in programs.items()
    }
    return {name: bytes(program.serialize()) for name, program in exported.items()}


CARD = """\
---
library_name: glowjax
license: {license}
tags: [normalizing-flow, glow, jax, image-generation]
---

# {kind} of {data}

A normalizing flow: an exact density of images of {shape}, {levels} grey levels. It was trained
with glowjax {version}, for {steps:,} steps of {batch} images.
It has {parameters:,} parameters. These are the {weights} weights of step {step:,}, in {dtype}.

{figures}

## Use

```python
import jax

import glowjax

model, params = glowjax.load("{folder}")
images = model.sample(params, jax.random.key(0), 16, temperature=0.7)
bits = model.bits_per_dim(params, images)
```

{programs}
"""

PROGRAMS = """\
Without glowjax, the programs need JAX alone, on a CPU or an NVIDIA GPU:

```python
import jax.export
import numpy as np
import safetensors.numpy

weights = safetensors.numpy.load_file("{folder}/model.safetensors")
read = lambda name: jax.export.deserialize(open(f"{folder}/{{name}}.stablehlo", "rb").read())
seeds = np.arange(16, dtype=np.uint32)  # one an image
images = read("sample").call(weights, seeds, np.float32(0.7){labels})
nats = read("log_prob").call(weights, images, np.uint32(0){labels})
z = read("encode").call(weights, images{labels})
```
"""


def _card(model, about, results, arrays, license, folder, programs) -> str:
    """The model card."""
    about_these = {"step": about["step"], "weights": about["weights"]}
    these = [result for result in results if about_these.items() <= result.items()]
    best = {r["split"]: r for r in sorted(these, key=lambda r: r["samples"])}.values()
    found = [
        f"| {r['split']} | {r['bits_per_dim']:.4f} ± {r['standard_error']:.4f} | {r['count']:,} |"
        for r in best
    ]
    table = ["| split | bits/dim | images |", "|---|---|---|", *found]
    labels = ", labels" if model.conditional else ""
    return CARD.format(
        license=license,
        kind=type(model.config.model).__name__,
        data=model.config.data.name,
        shape="×".join(map(str, model.image_shape)),
        levels=model.levels,
        version=about["glowjax"],
        steps=model.config.train_steps,
        batch=model.config.batch_size,
        parameters=sum(array.size for array in arrays.values()),
        dtype=" and ".join(sorted({str(array.dtype) for array in arrays.values()})),
        weights="averaged" if about["weights"] == "ema" else "raw",
        step=about["step"],
        figures="\n".join(table) if found else "It was not evaluated.",
        folder=folder,
        programs=PROGRAMS.format(folder=folder, labels=labels) if programs else "",
    )
