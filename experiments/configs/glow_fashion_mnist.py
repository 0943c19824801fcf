"""Glow on Fashion-MNIST, padded to 32×32 (D = 1,024), three levels.

    glowjax train glow_fashion_mnist --data.archives FOLDER_OF_THE_FOUR_GZ_FILES

Time: 3 min on one H200.
Expected: 2.164 bits/dim on test.
Source: Kingma & Dhariwal 2018; settings our own, those of glow_mnist.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="fashion_mnist", transform=Transform(pad=2)),
    model=Glow(
        levels=3, steps=16, width=512, scale="floor", logit=1e-5, dtype="bfloat16", unroll=4
    ),
    optimizer=Optimizer(
        name="muon",
        learning_rate=4e-3,
        muon_learning_rate=3e-3,
        weight_decay=0.2,
        clip_norm=20,
        warmup_images=100_000,
        decay="cosine",
    ),
    train_steps=6_500,
    batch_size=128,
    ema=0.999,
    evaluate_every=1_625,
    log_every=100,
)
