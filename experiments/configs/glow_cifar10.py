"""Glow on CIFAR-10 as it was trained: L = 3, K = 32, affine; the paper reports 3.35 bits/dim.

    glowjax train glow_cifar10

Hardware there: 8 GPUs, 64 images each, about a week. Held out here: 5,000 of the 50,000 training
images, to choose the checkpoint by; the released run chose it on the test set.

Time: 8 GPUs about a week in the released run; here 15,000 steps in 18 minutes on one H200.
Expected: 3.35 bits/dim, the paper's; 3.47 after 15,000 steps, where our run was stopped.
Source: Kingma & Dhariwal 2018, and its released code.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(shift=0.1)),
    model=Glow(levels=3, steps=32, width=512, dtype="bfloat16"),
    optimizer=Optimizer(name="glow_adamax", learning_rate=1e-3, warmup_images=500_000),
    train_steps=180_000,
    batch_size=512,
    ema=None,
    evaluate_with="raw",
    evaluate_every=1000,
    log_every=100,
)
