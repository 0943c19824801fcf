"""RealNVP on scikit-learn's digits (8×8, 17 grey levels).

    glowjax train realnvp_digits

Time: 92 s on 2 CPU cores, 135 s of processor time.
Expected: 2.197 bits/dim on test (glow_digits 2.011, pixel_flow_digits 1.924).
Source: Dinh et al. 2017; settings our own.
"""

from glowjax.runs import Config, Data, Optimizer, RealNVP, Transform

config = Config(
    data=Data(name="digits", transform=Transform(shift=0.125)),
    model=RealNVP(levels=2, width=16, blocks=1, logit=1e-5),
    optimizer=Optimizer(
        name="adam", learning_rate=2e-3, clip_norm=20, warmup_images=6400, decay="cosine"
    ),
    train_steps=600,
    batch_size=64,
    ema=0.999,
    evaluate_every=100,
    evaluate_samples=16,
    log_every=50,
)
