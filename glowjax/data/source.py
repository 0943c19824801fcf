"""One split of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from glowjax.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One split of a data set.

    Attributes:
      name, split: where it comes from.
      images: uint8 [N, H, W, C], an array or something that an integer index array reads like one.
      labels: int32 [N], likewise, or None.
      num_classes: labels lie in [0, num_classes); None without labels.
      levels: grey levels; images lie in [0, levels).

    Raises:
      ValueError: images or labels of another dtype or shape.
    """

    name: str
    split: str
    images: Any
    labels: Any = None
    num_classes: int | None = None
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
        about = f"{len(self):,} images of {self.image_shape}, {self.levels} levels"
        return f"{about}, sha256 {sha.hexdigest()}"
