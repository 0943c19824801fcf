"""Glow once more, in plain NumPy and float64: the yardstick of the faithfulness tests.

Written from the description of the released Glow alone and sharing no code with glowjax, so that
a slip in the library is not repeated here. Loops and einsums, slow on purpose: a batch has shape
[B, H, W, C], every log-det and log-probability shape [B], in nats.

Source: Kingma & Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions" (2018), and its
released code.
"""

import numpy as np

# ---------------------------------------------------------------------------------- function


def glow(params, x, labels=None, coupling="affine"):
    """Map images to whitened latents.

    `params` are those of `glowjax.glow`.
    Returns `(z, log_det, log_prob)`: z is [eps_1, ..., eps_top], log_det is log|det dz/dx|, and
    log_prob is the log-density of x, computed the way the recipe does: log-dets of the flow plus
    the log-densities of the latents *before* whitening. The cost of discretisation is left to
    `bits_per_dim`.
    """
    backbone = params["backbone"]
    x = np.asarray(x, np.float64)
    latents, priors = [], []
    log_det = np.zeros(len(x))
    last = sum(name.startswith("level") for name in backbone)
    for level in range(1, last + 1):
        stacked = backbone[f"level{level}"]["steps"]
        x = squeeze(x)
        for k in range(len(stacked["actnorm"]["bias"])):
            x, step_log_det = flow_step(index_step(stacked, k), x, coupling)
            log_det += step_log_det
        if level < last:
            x, leaving = halves(x)
            latents.append(leaving)
            priors.append(split_prior(backbone[f"split{level}"]["prior"], x))
    latents.append(x)
    priors.append(top_prior(params["top"], x.shape, labels))

    z = []
    log_prob = log_det.copy()
    for latent, (mean, log_std) in zip(latents, priors, strict=True):
        z.append((latent - mean) * np.exp(-log_std))
        log_det = log_det - per_example(log_std)
        log_prob = log_prob + gaussian_log_density(latent, mean, log_std)
    return z, log_det, log_prob


def flow_step(params, x, coupling):
    """ActNorm, then 1x1 mixing, then coupling."""
    norm, mix, couple = (params[name] for name in ("actnorm", "mixing", "coupling"))
    height, width = x.shape[1:3]
    x = actnorm(norm, x)
    log_det = height * width * np.sum(3 * norm["log_scale"])
    matrix, log_abs_det = mixing_matrix(mix)
    x = np.einsum("bhwi,ij->bhwj", x, matrix)
    log_det += height * width * log_abs_det
    x, coupling_log_det = coupling_layer(couple["net"], x, coupling)
    return x, log_det + coupling_log_det


def squeeze(x):
    """[B, H, W, C] -> [B, H/2, W/2, 4C]: pixel (dy, dx) of channel c becomes 4c + 2 dy + dx."""
    batch, height, width, channels = x.shape
    y = np.zeros((batch, height // 2, width // 2, 4 * channels))
    for c in range(channels):
        for dy in range(2):
            for dx in range(2):
                y[..., 4 * c + 2 * dy + dx] = x[:, dy::2, dx::2, c]
    return y


def actnorm(params, x):
    """y = (x + bias) exp(3 log_scale)."""
    return (x + params["bias"]) * np.exp(3 * params["log_scale"])


def mixing_matrix(params):
    """W (for row vectors, z W) and log|det W|, from a dense or a packed LU matrix."""
    if "weight" in params:
        return params["weight"], np.linalg.slogdet(params["weight"])[1]
    packed = params["lu"]
    lower = np.tril(packed, -1) + np.eye(len(packed))
    upper = np.triu(packed, 1) + np.diag(np.exp(np.diag(packed)))
    return lower @ upper, np.sum(np.diag(packed))


def coupling_layer(net, x, coupling):
    """The first half of the channels shifts (and, if affine, scales) the second half."""
    kept, changed = halves(x)
    out = conditioner(net, kept)
    if coupling == "additive":
        return np.concatenate([kept, changed + out], axis=-1), np.zeros(len(x))
    if coupling == "affine":
        shift, scale = out[..., 0::2], 1 / (1 + np.exp(-(out[..., 1::2] + 2)))
        changed = (changed + shift) * scale
        return np.concatenate([kept, changed], axis=-1), per_example(np.log(scale))
    raise ValueError(f"coupling must be 'affine' or 'additive', got {coupling!r}")


def conditioner(params, x):
    """3x3, ActNorm, ReLU, 1x1, ActNorm, ReLU, 3x3 zero convolution."""
    h = conv3x3(x, params["conv1"]["weight"])
    h = np.maximum(actnorm(params["norm1"], h), 0)
    h = np.einsum("bhwi,ij->bhwj", h, params["conv2"]["weight"][0, 0])
    h = np.maximum(actnorm(params["norm2"], h), 0)
    return zero_conv(params["out"], h)


def conv3x3(x, weight):
    """Cross-correlation of x [B, H, W, C] with weight [3, 3, C + 1, D].

    x is padded with zeros, and gains a last channel that is 1 on the padding and 0 inside.
    """
    batch, height, width, channels = x.shape
    padded = np.zeros((batch, height + 2, width + 2, channels + 1))
    padded[..., channels] = 1
    padded[:, 1:-1, 1:-1, :channels] = x
    padded[:, 1:-1, 1:-1, channels] = 0
    y = np.zeros((batch, height, width, weight.shape[-1]))
    for dy in range(3):
        for dx in range(3):
            window = padded[:, dy : dy + height, dx : dx + width]
            y += np.einsum("bhwi,ij->bhwj", window, weight[dy, dx])
    return y


def zero_conv(params, x):
    """(conv + bias) exp(3 log_scale), 3x3."""
    return (conv3x3(x, params["weight"]) + params["bias"]) * np.exp(3 * params["log_scale"])


def split_prior(params, kept):
    """Mean (even channels) and log standard deviation (odd channels) of the half that leaves."""
    out = zero_conv(params, kept)
    return out[..., 0::2], out[..., 1::2]


def top_prior(params, shape, labels):
    """Mean and log standard deviation (contiguous halves) of the top latent, each of `shape`."""
    nothing = np.zeros((*shape[:3], 0))  # a convolution of zeros: only the ring channel counts
    out = zero_conv(params["ring"], nothing)
    if labels is not None:
        linear = params["labels"]
        one_hot = np.eye(len(linear["weight"]))[labels]
        row = (one_hot @ linear["weight"] + linear["bias"]) * np.exp(3 * linear["log_scale"])
        out = out + row[:, None, None, :]
    return halves(out)


def gaussian_log_density(x, mean, log_std):
    """log N(x; mean, exp(log_std)^2), summed over all but the batch: [B]."""
    squared = (x - mean) ** 2 / np.exp(2 * log_std)
    return per_example(-0.5 * (np.log(2 * np.pi) + 2 * log_std + squared))


def halves(x):
    """First and second half of the channels."""
    middle = x.shape[-1] // 2
    return x[..., :middle], x[..., middle:]


def per_example(x):
    """Sum over all but the batch axis."""
    return x.reshape(len(x), -1).sum(axis=1)


def index_step(tree, k):
    """The parameters of step k, from parameters stacked along a leading axis."""
    if isinstance(tree, dict):
        return {name: index_step(leaf, k) for name, leaf in tree.items()}
    if isinstance(tree, tuple):
        return tuple(index_step(leaf, k) for leaf in tree)
    return np.asarray(tree[k], np.float64)


# ------------------------------------------------------------- objective, initialisation, data


def bits_per_dim(log_prob, dims, levels):
    """Bits/dim of the discrete image, from the log-density (nats) of x in [-1/2, 1/2)."""
    return -(log_prob - dims * np.log(levels)) / (dims * np.log(2))


def actnorm_init(x):
    """Bias and log_scale that give every channel of this batch mean 0 and variance 1."""
    bias = -x.mean(axis=(0, 1, 2))
    root_mean_square = np.sqrt(((x + bias) ** 2).mean(axis=(0, 1, 2)))
    return bias, np.log(1 / (root_mean_square + 1e-6)) / 3


def preprocess(images, noise, bits):
    """8-bit images to x in [-1/2, 1/2); noise, uniform on [0, 1), is a fraction of a bin."""
    x = np.asarray(images, np.float64)
    if bits < 8:
        x = np.floor(x / 2 ** (8 - bits))
    return x / 2**bits - 0.5 + noise / 2**bits


def decode_uint8(x, bits):
    """x to the 8-bit grey level at the bottom of its bin."""
    return np.clip(np.floor((x + 0.5) * 2**bits) * (256 / 2**bits), 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------- optimiser


def adamax_reference(gradients, learning_rate, beta1=0.9, beta2=0.9898, epsilon=1e-8):
    """The steps to *subtract* from a parameter, one for each gradient in the sequence."""
    m, u = 0.0, 0.0
    steps = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        rate = learning_rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        steps.append(rate * m / (u + epsilon))
    return steps
