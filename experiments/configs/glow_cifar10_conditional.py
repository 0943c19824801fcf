"""Class-conditional Glow on 5-bit CIFAR-10 as it was trained: additive, classifier weight 0.01.

    glowjax train glow_cifar10_conditional

Hardware there: 8 GPUs, 64 images each. Top prior and a linear classifier on the top latent see the
labels.

Time: 8 GPUs in the released run; not run here.
Expected: no bits/dim published; its samples are the paper's figure of classes.
Source: Kingma & Dhariwal 2018, and its released code.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(shift=0.1, bits=5)),
    model=Glow(
        levels=3, steps=32, width=512, coupling="additive", conditional=True, dtype="bfloat16"
    ),
    optimizer=Optimizer(name="glow_adamax", learning_rate=1e-3, warmup_images=500_000),
    classifier_weight=0.01,
    train_steps=180_000,
    batch_size=512,
    ema=None,
    evaluate_with="raw",
    evaluate_every=1000,
    log_every=100,
)
