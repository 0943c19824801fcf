"""TarFlow on CIFAR-10: patches of 2×2 and eight autoregressive flows, for 20 minutes of one GPU.

    glowjax train tarflow_cifar10

Patches, flows and channels of a head are those of the released settings for likelihoods of ImageNet
at 64×64, and the width and the blocks of a net are half of theirs: 384 and four.

Time: about 21 minutes on one H200, by 1,950 images a second.
Expected: 3.31 bits/dim on test.
Source: Zhai et al. 2024 and the released code; the optimizer and the number of images are our own.
"""

from glowjax.runs import Config, Data, Optimizer, TarFlow, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(flip=True)),
    model=TarFlow(patch=2, steps=4, width=384, blocks=4, heads=6, dtype="bfloat16"),
    optimizer=Optimizer(
        name="muon",
        learning_rate=2e-3,
        muon_learning_rate=4e-3,
        weight_decay=0.1,
        clip_norm=1.0,
        warmup_images=300_000,
        decay="cosine",
    ),
    train_steps=9_000,
    batch_size=256,
    ema=0.999,
    evaluate_every=2_250,
    log_every=100,
    temperature=1.0,
)
