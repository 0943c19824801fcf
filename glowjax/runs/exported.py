"""A trained model as a folder to hand on: weights, config, programs and a card.

    model.safetensors       the weights, one array a parameter
    config.json             the run's config and data, and the SHA-256 of the weights
    log_prob.stablehlo      programs for CPUs and NVIDIA GPUs that need JAX, and not glowjax
    encode.stablehlo
    sample.stablehlo
    README.md               a model card, as the Hugging Face Hub shows it

`glowjax.runs.exporting` writes it.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import safetensors
import safetensors.numpy

from glowjax.checks import require
from glowjax.runs.folder import read_about
from glowjax.runs.steps import abstract_state, make_trainer
from glowjax.runs.trained import ImageModel, image_model

WEIGHTS = "model.safetensors"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / WEIGHTS).is_file()


def load_exported(folder: Path) -> tuple[ImageModel, Any, dict[str, Any]]:
    """The model and the weights of an exported folder, and what its config.json says.

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
    return image_model(trainer, config, images, about.get("class_names")), params, about


def flat(tree: Any) -> dict[str, Any]:
    """A tree of dicts and tuples as one dict, its names and numbers joined by dots."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    return {name(path): leaf for path, leaf in leaves}


def like(tree: Any, arrays: dict[str, Any]) -> Any:
    """The inverse of `flat`, for a tree of this structure.

    Raises:
        ValueError: the arrays are not those of such a tree.
    """
    names = list(flat(tree))
    wanted = f"those of the model: {', '.join(sorted(names))}"
    require(set(arrays) == set(names), "weights", ", ".join(sorted(arrays)), wanted)
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in names])
