"""Jet on CIFAR-10: about the released architecture for ImageNet, for 20 minutes of one GPU.

    glowjax train jet_cifar10

It has 30 couplings with nets of width 512 and two blocks, where the released settings for ImageNet
at 64×64 have 32. Four couplings of channels come before each of tokens, as there.

Time: about 20 minutes on one H200, by 2,105 images a second.
Expected: 3.446 bits/dim on test, by the checkpoint of step 7,500: after it the model over-fits.
Source: Kolesnikov et al. 2024 and the released code; the optimizer and the number of images are our
own.
"""

from glowjax.runs import Config, Data, Jet, Optimizer, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(flip=True)),
    model=Jet(steps=3, width=512, blocks=2, heads=8, dtype="bfloat16"),
    optimizer=Optimizer(
        name="muon",
        learning_rate=2e-3,
        muon_learning_rate=3e-3,
        weight_decay=0.1,
        clip_norm=1.0,
        warmup_images=300_000,
        decay="cosine",
    ),
    train_steps=10_000,
    batch_size=256,
    ema=0.999,
    evaluate_every=2_500,
    log_every=100,
    temperature=1.0,
)
