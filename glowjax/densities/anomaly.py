"""Scores of anomaly besides the likelihood, which deep models raise for images that are simple."""

import io

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from PIL import Image

from glowjax.checks import require


def typicality(log_prob: ArrayLike, reference: ArrayLike) -> Float[np.ndarray, "N"]:
    """|ln p(x) - mean of ln p over data of the model's own kind|: `[N]`, nats.

    What is far *likelier* than the data is an anomaly too: the data lie in the typical set, where
    -ln p is about the entropy, and not at the mode.

    Args:
        log_prob: of what is judged, `[N]`, nats.
        reference: of held-out data of the model's own kind, `[M]`, nats.

    Raises:
        ValueError: an argument is not `[n]`, or `reference` is empty.

    Source: Nalisnick et al. 2019, Detecting out-of-distribution inputs using typicality, for
    batches of one.
    """
    log_prob, reference = np.asarray(log_prob, float), np.asarray(reference, float)
    require(log_prob.ndim == 1, "log_prob", log_prob.shape, "of shape [N]")
    ok = reference.ndim == 1 and reference.size
    require(ok, "reference", reference.shape, "of shape [M], M at least 1")
    return np.abs(log_prob - reference.mean())


def complexity_bits(images: ArrayLike) -> Float[np.ndarray, "N"]:
    """L(x): size of each image as a PNG, `[N]`, bits. A general compressor's -log₂ p(x).

    The header counts too; it is the same for all images of one shape. -log₂ p(x) - L(x), with p of
    the *discrete* image, is the anomaly score of the source: how many bits more than a compressor
    that knows of no data a model needs.

    Args:
        images: `[N, H, W, C]` uint8, C 1 or 3.

    Raises:
        ValueError: `images` are of another dtype or shape.

    Source: Serrà et al. 2020, Input complexity and out-of-distribution detection with
    likelihood-based generative models, equation 2.
    """
    images = np.asarray(images)
    require(images.dtype == np.uint8, "images", images.dtype, "uint8")
    ok = images.ndim == 4 and images.shape[3] in (1, 3)
    require(ok, "images", images.shape, "of shape [N, H, W, 1 or 3]")
    return np.array([_png_bits(image) for image in images], float)


def _png_bits(image: np.ndarray) -> int:
    png = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(png, "PNG", optimize=True)
    return 8 * len(png.getvalue())
