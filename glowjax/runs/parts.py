"""What the models of images share: what comes before them, their labels and their options."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from glowjax.arrays import one_hot
from glowjax.bijections.logit import Logit
from glowjax.checks import check_choice, check_labels
from glowjax.compose import with_context
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow


def logit_first(alpha: float | None) -> dict[str, Flow]:
    """The part of a chain that is the logit of the pixels; none for None."""
    return {} if alpha is None else {"logit": as_flow(Logit(alpha))}


NO_LABEL = -(2**31)  # in place of a label that training leaves out; -1 would be a usual mistake


@recorded
def of_labels(flow: Flow, num_classes: int) -> Flow:
    """`flow`, whose context is floats, with labels `[B]` in their place; one-hot floats for it.

    `NO_LABEL` becomes zeros, in compiled functions alone.
    """

    def embed(labels):
        check_labels(labels, num_classes, jnp.size(labels))
        given = (labels != NO_LABEL)[:, None]
        return jnp.where(given, one_hot(labels, num_classes, jnp.float32), 0.0)

    return with_context(flow, embed)


def options_of(model: Any) -> dict[str, Any]:
    """The fields of a model as arguments, with its dtype as an array's (None: as the flow's own).

    Raises:
        ValueError: the dtype is not one of its choices.
    """
    options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    del options["kind"]
    check_choice("dtype", model.dtype, ("float32", "bfloat16"))
    return options | {"dtype": jnp.bfloat16 if model.dtype == "bfloat16" else None}


def classes_of(conditional: bool, num_classes: int | None) -> int | None:
    """The number of labels to condition on, None for none."""
    if conditional and num_classes is None:
        raise ValueError("model.conditional must be false for data without labels")
    return num_classes if conditional else None
