"""Flow++ on CIFAR-10: the paper's architecture, for 20 minutes of one GPU.

    glowjax train flowpp_cifar10

It has 27.0 million parameters, 0.4 million of them for the noise of dequantization; the paper has
31.4 million, and 3.08 bits/dim on test. Three parts differ: 1×1 convolutions, which mix all
channels; the nets' last convolutions, which are 1×1; and the noise's nets, which see the image
itself. The paper trains for 400 epochs with dropout 0.2, and this config for 15 without.

Time: 20 minutes on one H200, of which compilation and evaluations take about 3.
Expected: 3.54 bits/dim on test, a bound with learned noise. It is far from trained: 400 epochs
would take seven hours. By then the paper has 3.08.
Source: Ho et al. 2019, section 4.
"""

from glowjax.runs import Config, Data, FlowPP, Optimizer, Transform

config = Config(
    data=Data(name="cifar10", validation=1000, transform=Transform(flip=True)),
    model=FlowPP(dtype="bfloat16"),
    optimizer=Optimizer(
        name="adam", learning_rate=1e-3, clip_norm=1.0, warmup_images=50_000, decay="cosine"
    ),
    train_steps=6_000,
    batch_size=128,
    ema=0.999,
    evaluate_every=1_000,
    log_every=100,
    temperature=1.0,
)
