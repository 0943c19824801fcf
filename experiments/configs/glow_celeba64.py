"""Glow on 5-bit faces of CelebA at 64×64, four levels.

    glowjax train glow_celeba64

The aligned faces are cut to their central 148×148 pixels and averaged down to 64×64. The optimizer
is that of glow_cifar10_muon. The labels, 40 attributes, are not used in training;
`glowjax edit --attribute` finds their directions afterwards.

Time: 26 min on one H200 for the 26,000 steps of the run that docs/training.md tells of.
Expected: 1.146 bits/dim on test at 5 bits, on faces that were stored as JPEGs of 64×64. On celeb_a
itself it was not run, and the figure will differ.
Source: Kingma & Dhariwal 2018 for the flow and the 5 bits; Jordan et al. 2024 for Muon.
"""

from glowjax.runs import Config, Data, Glow, Optimizer, Transform

config = Config(
    data=Data(name="celeb_a", resize=64, validation=1000, transform=Transform(bits=5, flip=True)),
    model=Glow(levels=4, steps=32, width=256, dtype="bfloat16"),
    optimizer=Optimizer(
        name="muon",
        learning_rate=2e-3,
        muon_learning_rate=2e-3,
        weight_decay=0.2,
        clip_norm=10,
        warmup_images=25_000,
        decay="cosine",
    ),
    train_steps=20_000,
    batch_size=128,
    ema=0.999,
    evaluate_every=1000,
    log_every=100,
)
