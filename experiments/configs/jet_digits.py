"""Jet on scikit-learn's digits (8×8, 17 grey levels).

    glowjax train jet_digits

Time: 186 s on 2 CPU cores that had other work, 221 s of processor time.
Expected: 2.090 bits/dim on test (glow_digits 2.011 in half of the time, tarflow_digits 2.067,
pixel_flow_digits 1.924).
Source: Kolesnikov et al. 2024; settings our own.
"""

from glowjax.runs import Config, Data, Jet, Optimizer, Transform

config = Config(
    data=Data(name="digits", transform=Transform(shift=0.125)),
    model=Jet(patch=2, steps=4, channel_couplings=1, width=32, blocks=1, heads=2, logit=1e-3),
    optimizer=Optimizer(
        name="muon",
        learning_rate=1e-2,
        muon_learning_rate=1e-2,
        weight_decay=0.1,
        clip_norm=20,
        warmup_images=6400,
        decay="cosine",
    ),
    train_steps=2400,
    batch_size=64,
    ema=0.999,
    evaluate_every=400,
    evaluate_samples=16,
    log_every=50,
)
