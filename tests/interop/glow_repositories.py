"""Public PyTorch Glows in a few lines each: their names, shapes and formulas, on NumPy arrays.

A state is a dict of the names of a repository. Images are NCHW, as they are there.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

LEVELS, STEPS, WIDTH, CLASSES = 2, 2, 5, 4


# ------------------------------------------------------------------------------------ formulas


def conv(x, weight, bias=None, padding=None, value=0.0):
    """`torch.nn.Conv2d` after a padding by a value; as much as keeps the size by default."""
    p = weight.shape[-1] // 2 if padding is None else padding
    x = jnp.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=value)
    y = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
    )
    return y if bias is None else y + bias[:, None, None]


def squeeze(x):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(b, 4 * c, h // 2, w // 2)


def total(x):
    return jnp.sum(x, axis=(1, 2, 3))


def normal(x, mean, log_std):
    return total(-0.5 * jnp.log(2 * jnp.pi) - log_std - 0.5 * ((x - mean) / jnp.exp(log_std)) ** 2)


def halves(x):
    return jnp.split(x, 2, axis=1)


def in_turn(x):
    return x[:, 0::2], x[:, 1::2]


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x - 2))


def coupled(a, b, log_det, shift, scale=None):
    """b + shift beside a, times the sigmoid of the scale if there is one."""
    if scale is None:
        return jnp.concatenate([a, b + shift], axis=1), log_det
    b = (b + shift) * sigmoid(scale)
    return jnp.concatenate([a, b], axis=1), log_det + total(jnp.log(sigmoid(scale)))


def lu(p, lower, upper, log_s, sign):
    eye = jnp.eye(len(p))
    return p @ (jnp.tril(lower, -1) + eye) @ (jnp.triu(upper, 1) + eye * sign * jnp.exp(log_s))


class Names:
    """Parameters below a prefix, drawn when they are first asked for; then looked up."""

    def __init__(self, state, prefix="", seed=1):
        self.state, self.prefix, self.rng = state, prefix, np.random.default_rng(seed)

    def __truediv__(self, name):
        return Names(self.state, f"{self.prefix}{name}.", seed=self.rng.integers(2**32))

    def __call__(self, name, *shape, start=0.0, noise=0.2):
        name = self.prefix + name
        if name not in self.state:
            self.state[name] = start + noise * self.rng.normal(size=shape)
        return jnp.asarray(self.state[name])

    def fixed(self, name, value):
        return jnp.asarray(self.state.setdefault(self.prefix + name, np.asarray(value)))

    def mixing(self, c, use_lu, dense, names):
        """A 1×1 convolution, dense or of P, L, U, log s and signs, and its ln|det|."""
        if not use_lu:
            weight = self(dense, c, c, start=np.eye(c))
            return weight, jnp.linalg.slogdet(weight)[1]
        p, lower, upper, log_s, sign = names
        order = np.random.default_rng(c).permutation(c)
        parts = [self.fixed(p, np.eye(c)[order]), self(lower, c, c), self(upper, c, c)]
        parts += [self(log_s, c), self.fixed(sign, np.where(order % 2, 1.0, -1.0))]
        return lu(*parts), jnp.sum(parts[3])


# --------------------------------------------- y0ast/Glow-PyTorch; chaiyujin/glow-pytorch by names


def y0ast(names, x, *, use_lu=False, additive=False, top=True, labels=None):
    """Log-likelihoods of the model of y0ast/Glow-PyTorch."""
    log_prob, layer = 0.0, 0
    for level in range(LEVELS):
        x, layer = squeeze(x), layer + 1  # a layer without parameters
        for _ in range(STEPS):
            x, log_det = _y0ast_step(names / f"flow.layers.{layer}", x, use_lu, additive)
            log_prob, layer = log_prob + log_det, layer + 1
        if level < LEVELS - 1:
            x, out = halves(x)
            prior = _y0ast_zeros(names / f"flow.layers.{layer}.conv", x, 2 * x.shape[1])
            log_prob, layer = log_prob + normal(out, *in_turn(prior)), layer + 1
    h = jnp.zeros((len(x), 2 * x.shape[1], *x.shape[2:]))
    if top:
        h = _y0ast_zeros(names / "learn_top_fn", h, h.shape[1])
    if labels is not None:
        project = names / "project_ycond"
        y = jax.nn.one_hot(labels, CLASSES) @ (project / "linear")("weight", h.shape[1], CLASSES).T
        y = (y + (project / "linear")("bias", h.shape[1])) * jnp.exp(
            3 * project("logs", h.shape[1])
        )
        h = h + y[:, :, None, None]
    return log_prob + normal(x, *halves(h))


def _y0ast_norm(names, x):
    c = x.shape[1]
    bias, logs = names("bias", 1, c, 1, 1), names("logs", 1, c, 1, 1)
    return (x + bias) * jnp.exp(logs), jnp.sum(logs) * x.shape[2] * x.shape[3]


def _y0ast_zeros(names, x, outputs):
    layer = names / "conv"
    y = conv(x, layer("weight", outputs, x.shape[1], 3, 3), layer("bias", outputs))
    return y * jnp.exp(3 * names("logs", outputs, 1, 1))


def _y0ast_step(names, x, use_lu, additive):
    x, log_det = _y0ast_norm(names / "actnorm", x)
    c, positions = x.shape[1], x.shape[2] * x.shape[3]
    parts = ("p", "lower", "upper", "log_s", "sign_s")
    weight, slope = (names / "invconv").mixing(c, use_lu, "weight", parts)
    log_det += positions * slope
    a, b = halves(conv(x, weight[:, :, None, None]))
    block = names / "block"
    h = conv(a, (block / "0.conv")("weight", WIDTH, c // 2, 3, 3))
    h = jax.nn.relu(_y0ast_norm(block / "0.actnorm", h)[0])
    h = conv(h, (block / "2.conv")("weight", WIDTH, WIDTH, 1, 1))
    h = jax.nn.relu(_y0ast_norm(block / "2.actnorm", h)[0])
    h = _y0ast_zeros(block / "4", h, c // 2 if additive else c)
    return coupled(a, b, log_det, *((h,) if additive else in_turn(h)))


def chaiyujin_name(name):
    """A name of y0ast's as chaiyujin/glow-pytorch, whose layers are the same, has it."""
    name = name.replace(".block.", ".f.").replace("learn_top_fn", "learn_top")
    name = re.sub(
        r"(\d|conv|learn_top|project_ycond)\.(conv|linear)\.(weight|bias)", r"\1.\3", name
    )
    return re.sub(r"invconv\.(lower|upper)", lambda m: f"invconv.{m[1][0]}", name)


# ------------------------------------------------------------------------- rosinality/glow-pytorch


def rosinality(names, x, *, use_lu=False, additive=False):
    """Log-likelihoods of the model of rosinality/glow-pytorch."""
    log_prob = 0.0
    for level in range(LEVELS):
        block, x = names / f"blocks.{level}", squeeze(x)
        for step in range(STEPS):
            x, log_det = _rosinality_step(block / f"flows.{step}", x, use_lu, additive)
            log_prob += log_det
        last = level == LEVELS - 1
        x, out = (jnp.zeros_like(x), x) if last else halves(x)
        prior = _rosinality_zeros(block / "prior", x, 2 * out.shape[1])
        log_prob += normal(out, *halves(prior))
    return log_prob


def _rosinality_zeros(names, x, outputs):
    layer = names / "conv"
    weight, bias = layer("weight", outputs, x.shape[1], 3, 3), layer("bias", outputs)
    return conv(x, weight, bias, value=1.0) * jnp.exp(3 * names("scale", 1, outputs, 1, 1))


def _rosinality_step(names, x, use_lu, additive):
    c, positions = x.shape[1], x.shape[2] * x.shape[3]
    norm = names / "actnorm"
    norm.fixed("initialized", np.uint8(1))
    signs = np.where(np.arange(c) % 3, 1.0, -1.0).reshape(1, c, 1, 1)
    scale = norm("scale", 1, c, 1, 1, start=signs)
    x, log_det = scale * (x + norm("loc", 1, c, 1, 1)), jnp.sum(jnp.log(jnp.abs(scale)))
    parts = ("w_p", "w_l", "w_u", "w_s", "s_sign")
    weight, slope = (names / "invconv").mixing(c, use_lu, "weight", parts)
    log_det = positions * (log_det + slope)
    a, b = halves(conv(x, weight[:, :, None, None]))
    first, second = names / "coupling.net.0", names / "coupling.net.2"
    h = jax.nn.relu(conv(a, first("weight", WIDTH, c // 2, 3, 3), first("bias", WIDTH)))
    h = jax.nn.relu(conv(h, second("weight", WIDTH, WIDTH, 1, 1), second("bias", WIDTH)))
    h = _rosinality_zeros(names / "coupling.net.4", h, c // 2 if additive else c)
    return coupled(a, b, log_det, *((h,) if additive else halves(h)[::-1]))


# ------------------------------------------------------------- kamenbliznashki/normalizing_flows


def kamenbliznashki(names, x, *, use_lu=False):
    """Log-likelihoods of the model in glow.py of kamenbliznashki/normalizing_flows."""
    log_prob = 0.0
    for level in range(LEVELS):
        last, x = level == LEVELS - 1, squeeze(x)
        block = names if last else names / f"flowlevels.{level}"
        for step in range(STEPS):
            place = f"{'flowstep' if last else 'flowsteps'}.{step}"
            x, log_det = _kamenbliznashki_step(block / place, x, use_lu)
            log_prob += log_det
        x, out = (jnp.zeros_like(x), x) if last else halves(x)
        prior = block / ("gaussianize" if last else "split.gaussianize")
        log_prob += normal(out, *in_turn(_scaled_conv(prior, "net", x, 2 * out.shape[1], 1)))
    return log_prob


def _scaled_conv(names, layer, x, outputs, padding):
    weight = (names / layer)("weight", outputs, x.shape[1], 3, 3)
    y = conv(x, weight, (names / layer)("bias", outputs), padding)
    return y * jnp.exp(names("log_scale_factor", outputs, 1, 1))


def _kamenbliznashki_norm(names, x):
    c = x.shape[1]
    names.fixed("initialized", np.uint8(1))
    signs = np.where(np.arange(c) % 3, 1.0, -1.0).reshape(1, c, 1, 1)
    scale, bias = names("scale", 1, c, 1, 1, start=signs), names("bias", 1, c, 1, 1)
    return (x - bias) / scale, -jnp.sum(jnp.log(jnp.abs(scale))) * x.shape[2] * x.shape[3]


def _kamenbliznashki_step(names, x, use_lu):
    x, log_det = _kamenbliznashki_norm(names / "0", x)
    c, positions = x.shape[1], x.shape[2] * x.shape[3]
    parts = ("p", "l", "u", "log_s", "sign_s")
    weight, slope = (names / "1").mixing(c, use_lu, "w", parts)
    a, b = halves(conv(x, weight[:, :, None, None]))
    net = names / "2"
    h = conv(b, (net / "conv1")("weight", WIDTH, c // 2, 3, 3))
    h = jax.nn.relu(_kamenbliznashki_norm(net / "actnorm1", h)[0])
    h = conv(h, (net / "conv2")("weight", WIDTH, WIDTH, 1, 1), padding=1)
    h = jax.nn.relu(_kamenbliznashki_norm(net / "actnorm2", h)[0])
    shift, scale = in_turn(_scaled_conv(net, "conv3", h, c, 0))
    a = a * sigmoid(scale) + shift
    log_det += positions * slope + total(jnp.log(sigmoid(scale)))
    return jnp.concatenate([a, b], axis=1), log_det
