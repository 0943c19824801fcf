"""One split of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from glowjax.checks import require

MAX_HELD_OUT = 5000  # images of a set without splits that are kept for validation, or for a test


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One split of a data set.

    Attributes:
      name, split: where it comes from.
      images: uint8 [N, H, W, C], an array or something that an integer index array reads like one.
      labels: int32 [N], likewise, or None.
      num_classes: labels lie in [0, num_classes); None without labels.
      class_names: in the order of the labels; None: classes are called by their numbers.
      levels: grey levels; images lie in [0, levels).

    Raises:
      ValueError: images or labels of another dtype or shape.
    """

    name: str
    split: str
    images: Any
    labels: Any = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    levels: int = 256

    def __post_init__(self):
        dtype, shape = self.images.dtype, tuple(self.images.shape)
        wanted = "uint8 of shape [N, H, W, C] (deeper ones must be brought to 8 bits first)"
        ok = dtype == np.uint8 and len(shape) == 4
        require(ok, f"images of {self.name}", f"{dtype} of shape {shape}", wanted)
        if self.labels is not None:
            dtype, labels = self.labels.dtype, tuple(self.labels.shape)
            ok = np.issubdtype(dtype, np.integer) and labels == shape[:1]
            wanted = f"integers of shape {shape[:1]}, one an image"
            require(ok, f"labels of {self.name}", f"{dtype} of shape {labels}", wanted)

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        name: str = "arrays",
        levels: int = 256,
        held_out: int | None = None,
        seed: int = 0,
    ) -> dict[str, Source]:
        """Splits arrays at random into the sources that `glowjax.runs.training.train` takes.

        Args:
          images: uint8 [N, H, W, C] or [N, H, W].
          labels: integers [N] from 0, or None.
          name: what messages and pictures call them.
          levels: grey levels of the images.
          held_out: images for validation, and as many for the test; default: a tenth, at most
            5,000.
          seed: of the split.

        Returns:
          Sources "train", "validation" and "test".

        Raises:
          ValueError: images or labels of another dtype, shape or range; too few images.
        """
        images = np.asarray(images)
        images = images[..., None] if images.ndim == 3 else images
        whole = cls(name=name, split="all", images=images, labels=labels, levels=levels)
        wanted = f"in 0..{levels - 1}"
        require(images.size and images.max() < levels, "images", images.max(initial=0), wanted)
        classes = None if labels is None else int(np.max(labels)) + 1
        require(labels is None or np.min(labels) >= 0, "labels", labels, "counted from 0")
        held = min(len(whole) // 10, MAX_HELD_OUT) if held_out is None else held_out
        wanted = f"at least 1, and less than half of the {len(whole)} images"
        require(1 <= held < len(whole) / 2, "held_out", held, wanted)
        order = np.random.RandomState(seed).permutation(len(whole))
        parts = {
            "validation": order[:held],
            "test": order[held : 2 * held],
            "train": order[2 * held :],
        }
        return {
            split: dataclasses.replace(
                whole,
                split=split,
                images=images[part],
                labels=None if labels is None else np.asarray(labels)[part].astype(np.int32),
                num_classes=classes,
            )
            for split, part in parts.items()
        }

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """Tells data sets apart: their size, and SHA-256 of up to 16 examples all over."""
        few = np.linspace(0, len(self) - 1, min(16, len(self))).astype(int)
        sha = hashlib.sha256(np.ascontiguousarray(self.images[few]).data)
        if self.labels is not None:
            sha.update(np.ascontiguousarray(self.labels[few]).data)
        about = f"{len(self):,} images of {self.image_shape}, {self.levels} grey levels"
        return f"{about}, sha256 {sha.hexdigest()}"
