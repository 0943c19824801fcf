"""TarFlow on scikit-learn's digits (8×8, 17 grey levels).

    glowjax train tarflow_digits

Time: 154 s on 2 CPU cores that had other work, 207 s of processor time.
Expected: 2.067 bits/dim on test, and by three seeds 2.067 … 2.071 (glow_digits 1.990 in less
processor time; jet_digits 2.090, pixel_flow_digits 1.924).
Source: Zhai et al. 2024; settings our own.
"""

from glowjax.runs import Config, Data, Optimizer, TarFlow, Transform

config = Config(
    data=Data(name="digits", transform=Transform(shift=0.125)),
    model=TarFlow(patch=2, steps=1, width=48, blocks=4, heads=3, logit=1e-3),
    optimizer=Optimizer(
        name="muon",
        learning_rate=2e-2,
        muon_learning_rate=1.5e-2,
        weight_decay=0.3,
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
