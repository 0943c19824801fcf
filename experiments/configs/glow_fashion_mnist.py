"""Glow on Fashion-MNIST, padded to 32×32 (D = 1,024), three levels.

    glowjax train glow_fashion_mnist --data.archives FOLDER_OF_THE_FOUR_GZ_FILES

Time: 6 min on one H100.
Expected: 2.342 bits/dim on test.
Source: Kingma & Dhariwal 2018; settings our own, those of glow_mnist.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="fashion_mnist", transform=Transform(pad=2)),
    model=Glow(levels=3, steps=16, width=512, scale="floor", dtype="bfloat16", unroll=4),
    optimizer=Optimizer(
        name="adamax", learning_rate=2e-3, clip_norm=20, warmup_images=100_000, decay="cosine"
    ),
    train_steps=16_000,
    batch_size=128,
    ema=0.999,
    evaluate_every=1000,
    log_every=100,
)
