"""Glow on 5-bit CelebA-HQ at 256×256 as it was trained: L = 6, K = 32, additive; 1.03 bits/dim.

    glowjax train glow_celebahq256

Hardware there: 40 GPUs, one image each. The released code counts 64 images a device and step
whatever fits: hence warmup_images and b2. Needs the `tf` extra, and CelebA-HQ prepared by hand as
tensorflow-datasets describes. Without splits of its own, 3,000 images each are held out for
validation and test.

Time: 40 GPUs in the released run; not run here.
Expected: 1.03 bits/dim at 5 bits, the paper's.
Source: Kingma & Dhariwal 2018, and its released code.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="celeb_a_hq/256", transform=Transform(bits=5)),
    model=Glow(levels=6, steps=32, width=512, coupling="additive", dtype="bfloat16"),
    optimizer=Optimizer(name="glow_adamax", learning_rate=1e-3, b2=0.95, warmup_images=7_800),
    train_steps=1_000_000,
    batch_size=40,
    ema=None,
    evaluate_with="raw",
    evaluate_every=5000,
    log_every=100,
)
