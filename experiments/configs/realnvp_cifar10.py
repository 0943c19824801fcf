"""RealNVP on CIFAR-10 as in the paper, which reports 3.49 bits/dim: two scales, 8 blocks of 64.

    glowjax train realnvp_cifar10

Of the paper's settings two are not here: an L2 penalty of 5e-5 on the weight norms' scales, and
batch normalization, for which ActNorm stands. Its length of training is not given; ours is a guess.

Time: not run here; by its arithmetic about a day on one H200.
Expected: 3.49 bits/dim, the paper's.
Source: Dinh et al. 2017, section 4.1.
"""

from glowjax.runs import Config, Data, Optimizer, RealNVP, Transform

config = Config(
    data=Data(name="cifar10", transform=Transform(flip=True)),
    model=RealNVP(levels=2, width=64, blocks=8, logit=0.05, dtype="bfloat16"),
    optimizer=Optimizer(name="adam", learning_rate=1e-3, warmup_images=50_000),
    train_steps=500_000,
    batch_size=64,
    evaluate_every=5000,
    log_every=100,
)
