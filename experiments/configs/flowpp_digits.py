"""Flow++ on scikit-learn's digits (8×8, 17 grey levels).

    glowjax train flowpp_digits

Time: 141 s on 2 CPU cores, 214 s of processor time, of which compiling takes about 90.
Expected: 1.994 bits/dim on test, a bound with learned noise (glow_digits 2.011, realnvp_digits
2.197, pixel_flow_digits 1.924, all with uniform noise).
Source: Ho et al. 2019; settings our own.
"""

from glowjax.runs import Config, Data, FlowPP, Optimizer, Transform

config = Config(
    data=Data(name="digits", transform=Transform(shift=0.125)),
    model=FlowPP(
        components=4,
        width=16,
        blocks=1,
        heads=2,
        logit=1e-3,
        noise_steps=2,
        noise_width=16,
        noise_blocks=1,
    ),
    optimizer=Optimizer(
        name="adam", learning_rate=1e-2, clip_norm=20, warmup_images=6400, decay="cosine"
    ),
    train_steps=900,
    batch_size=64,
    ema=0.99,
    evaluate_every=150,
    evaluate_samples=16,
    log_every=50,
)
