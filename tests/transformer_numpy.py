"""A plain reading of the transformers' docstrings, one token and one head after the other."""

import jax
import numpy as np


def transformer(params, tokens, heads, *, causal):
    """Outputs `[T, features]` of the tokens `[T, C]` of one image, by a net's parameters."""
    count = len(tokens)

    def dense(p, h):
        return h @ np.asarray(p["kernel"]) + np.asarray(p["bias"])

    def norm(p, h):
        h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6)
        return h * np.asarray(p["scale"]) + np.asarray(p["bias"])

    def gelu(h):
        return h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))

    def attention(qkv):
        q, k, v = np.split(qkv, 3, axis=-1)
        size = q.shape[1] // heads
        result = np.zeros_like(q)
        for token in range(count):
            seen = slice(0, token + 1 if causal else count)
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                weights = np.exp(k[seen, part] @ q[token, part] / np.sqrt(size))
                result[token, part] = weights / weights.sum() @ v[seen, part]
        return result

    h = dense(params["embed"], tokens) + np.asarray(params["position"]).reshape(count, -1)
    for i in range(len(params["blocks"]["qkv"]["bias"])):
        block = jax.tree.map(lambda a, i=i: a[i], params["blocks"])
        seen = attention(dense(block["qkv"], norm(block["norm1"], h)))
        h = h + dense(block["attended"], seen)
        h = h + dense(block["mlp"], gelu(dense(block["hidden"], norm(block["norm2"], h))))
    return dense(params["out"], norm(params["norm"], h) if "norm" in params else h)
