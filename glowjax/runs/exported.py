"""A trained model as a folder to hand on: weights, config, programs and a card.

    model.safetensors       the weights, one array a parameter
    config.json             the run's config and data, and the SHA-256 of the weights
    log_prob.stablehlo      programs for CPUs and NVIDIA GPUs that need JAX, and not glowjax
    encode.stablehlo
    sample.stablehlo
    README.md               a model card, as the Hugging Face Hub shows it

`load` reads such a folder too.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

import glowjax
from glowjax.checks import require
from glowjax.files import write_whole
from glowjax.runs.folder import CONFIG, Run, about_run, read_about
from glowjax.runs.results import abstract_state, image_model, kept_results, restore_weights
from glowjax.runs.steps import make_trainer
from glowjax.runs.trained import ImageModel

WEIGHTS = "model.safetensors"
PLATFORMS = ("cpu", "cuda")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / WEIGHTS).is_file()


def export(
    run_dir: Path,
    out: Path,
    *,
    checkpoint: str | int = "best",
    weights: str | None = None,
    license: str = "other",
    programs: bool = True,
) -> None:
    """Writes a run's model into a new or empty folder, see above.

    Args:
        run_dir: of the run.
        out: the folder.
        checkpoint, weights: as for `load`.
        license: of the weights, as the Hugging Face Hub names licences.
        programs: whether to compile the programs.

    Raises:
        ValueError: the run cannot be read; the folder holds something already.
    """
    out = Path(out)
    wanted = "a new or empty folder"
    require(not out.exists() or (out.is_dir() and not any(out.iterdir())), "out", str(out), wanted)
    with contextlib.closing(Run.open(run_dir, read_only=True)) as run:
        weights = weights or run.config.evaluate_with
        trainer, params, step = restore_weights(run, checkpoint, weights)
        here = dataclasses.replace(run.config.data, data_dir=None, archives=None)  # not elsewhere
        about = about_run(dataclasses.replace(run.config, data=here), run.images)
        model = image_model(trainer, run.config, run.images)
    params = params.flow
    arrays = {name: np.asarray(array) for name, array in flat(params).items()}
    content = safetensors.numpy.save(arrays, metadata={"format": "glowjax"})
    about |= {"glowjax": glowjax.__version__, "step": step, "weights": weights}
    about |= {"weights_sha256": hashlib.sha256(content).hexdigest()}
    files = _programs(model, params) if programs else {}
    card = _card(model, about, kept_results(run_dir), arrays, license, out.name, programs)
    out.mkdir(parents=True, exist_ok=True)
    for name, program in files.items():
        write_whole(out / f"{name}.stablehlo", program)
    write_whole(out / "README.md", card)
    write_whole(out / CONFIG, json.dumps(about, indent=2) + "\n")
    write_whole(out / WEIGHTS, content)  # last: what makes the folder an exported model


def load_exported(folder: Path) -> tuple[ImageModel, Any]:
    """The model and the weights of an exported folder.

    Raises:
        ValueError: a file is missing, damaged, or not ours; the weights do not fit the model.
    """
    config, images, about = read_about(folder)
    content = (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    wanted = f"the file that was exported, SHA-256 {about.get('weights_sha256')}"
    require(digest == about.get("weights_sha256"), str(folder / WEIGHTS), digest, wanted)
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    trainer = make_trainer(config, **images)
    abstract = abstract_state(trainer, images).params.flow
    params = like(abstract, arrays)
    for name, leaf in flat(abstract).items():
        given = arrays[name].shape
        require(given == leaf.shape, f"weights {name}", given, f"of shape {leaf.shape}")
    params = jax.tree.map(lambda a, s: jnp.asarray(a, s.dtype), params, abstract)
    return image_model(trainer, config, images), params


def flat(tree: Any) -> dict[str, Any]:
    """A tree of dicts as one, its names joined by dots."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def like(tree: Any, arrays: dict[str, Any]) -> Any:
    """The inverse of `flat`, for a tree of this structure.

    Raises:
        ValueError: the arrays are not those of such a tree.
    """
    names = list(flat(tree))
    wanted = f"those of the model: {', '.join(sorted(names))}"
    require(set(arrays) == set(names), "weights", ", ".join(sorted(arrays)), wanted)
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in names])


def _programs(model: ImageModel, params: Any) -> dict[str, bytes]:
    """Serialised programs of any batch, functions of the arrays of model.safetensors."""
    (batch,) = jax.export.symbolic_shape("b")
    weights = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in flat(params).items()}
    images = jax.ShapeDtypeStruct((batch, *model.image_shape), jnp.uint8)
    labels = (jax.ShapeDtypeStruct((batch,), jnp.int32),) * model.conditional
    seed, seeds = (jax.ShapeDtypeStruct(shape, jnp.uint32) for shape in ((), (batch,)))
    temperature = jax.ShapeDtypeStruct((), jnp.float32)

    def log_prob(weights, images, seed, *labels):
        return model.log_prob(like(params, weights), images, jax.random.key(seed), *labels)

    def encode(weights, images, *labels):
        return model.encode(like(params, weights), images, *labels)

    def sample(weights, seeds, temperature, *labels):  # a seed an image, whatever the others
        def draw(level, like):
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), level))(seeds)
            return temperature * jax.vmap(lambda k: jax.random.normal(k, like.shape[1:]))(keys)

        leaves, structure = jax.tree.flatten(latents)
        z = structure.unflatten(draw(level, like) for level, like in enumerate(leaves, 1))
        return model.decode(like(params, weights), z, *labels)

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
It has {parameters:,} parameters. These are the {weights} weights of step {step:,}.

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
        weights="averaged" if about["weights"] == "ema" else "raw",
        step=about["step"],
        figures="\n".join(table) if found else "It was not evaluated.",
        folder=folder,
        programs=PROGRAMS.format(folder=folder, labels=labels) if programs else "",
    )
