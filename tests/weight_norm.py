"""A weight-normalised convolution in plain NumPy, one product for each output number."""

import numpy as np


def conv(p, h):
    """Of an image `[H, W, C]`, with the parameters of a `WeightNormConv`."""
    w = np.asarray(p["direction"])
    w = w / np.sqrt((w**2).sum((0, 1, 2))) * np.asarray(p["scale"])
    r = w.shape[0] // 2
    h = np.pad(h, ((r, r), (r, r), (0, 0)))
    size = (h.shape[0] - 2 * r, h.shape[1] - 2 * r)
    windows = [
        [h[i : i + 2 * r + 1, j : j + 2 * r + 1] for j in range(size[1])] for i in range(size[0])
    ]
    return np.einsum("hwabc,abcf->hwf", np.array(windows), w) + np.asarray(p["bias"])
