"""Glow on ImageNet at 32×32 as it was trained: L = 3, K = 48; the paper reports 4.09 bits/dim.

    glowjax train glow_imagenet32

Hardware there: 8 GPUs, 64 images each. Test is the data set's validation split, as in the paper;
5,000 training images are held out for validation.

Time: 8 GPUs in the released run; not run here.
Expected: 4.09 bits/dim, the paper's.
Source: Kingma & Dhariwal 2018, and its released code.
"""

from glowjax.runs import Config, Data, Glow, Optimizer

config = Config(
    data=Data(name="downsampled_imagenet/32x32"),
    model=Glow(levels=3, steps=48, width=512, dtype="bfloat16"),
    optimizer=Optimizer(name="glow_adamax", learning_rate=1e-3, warmup_images=500_000),
    train_steps=500_000,
    batch_size=512,
    ema=None,
    evaluate_with="raw",
    evaluate_every=5000,
    log_every=100,
)
