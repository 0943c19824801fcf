"""Glow on ImageNet at 64×64 as it was trained: L = 4, K = 48; the paper reports 3.81 bits/dim.

    glowjax train glow_imagenet64

Hardware there: 8 GPUs, 16 images each. The released code counts 64 images a device and step
whatever fits: hence warmup_images and b2. Test is the data set's validation split, as in the paper;
5,000 training images are held out for validation.

Time: 8 GPUs in the released run; not run here.
Expected: 3.81 bits/dim, the paper's.
Source: Kingma & Dhariwal 2018, and its released code.
"""

from glowjax.runs import Config, Data, Glow, Optimizer

config = Config(
    data=Data(name="downsampled_imagenet/64x64"),
    model=Glow(levels=4, steps=48, width=512, dtype="bfloat16"),
    optimizer=Optimizer(name="glow_adamax", learning_rate=1e-3, b2=0.9898, warmup_images=125_000),
    train_steps=1_000_000,
    batch_size=128,
    ema=None,
    evaluate_with="raw",
    evaluate_every=5000,
    log_every=100,
)
