"""Flow++ on CIFAR-10, with the paper's architecture, in half an hour of one GPU.

    glowjax train flowpp_cifar10

TODO

Time: TODO
Expected:
Source: Ho et al. 2019, section 4.
"""

from glowjax.runs import Config, Data, FlowPP, Optimizer, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(flip=True)),
    model=FlowPP(dtype="bfloat16"),
    optimizer=Optimizer(
        name="adam", learning_rate=1e-3, clip_norm=1.0, warmup_images=50_000, decay="cosine"
    ),
    train_steps=6_000,
    batch_size=64,
    ema=0.999,
    evaluate_every=1000,
    log_every=100,
)
