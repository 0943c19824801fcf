"""An autoregressive flow with a PixelCNN on scikit-learn's digits (8×8, 17 grey levels).

    glowjax train pixel_flow_digits

Time: ? min on 2 CPU cores.
Expected: ? bits/dim on test.
Source: settings our own.
"""

from glowjax.config import Config, Data
from glowjax.data import Transform
from glowjax.models import Autoregressive
from glowjax.optim import Optimizer

config = Config(
    data=Data(name="digits", transform=Transform(shift=0.125)),
    model=Autoregressive(width=32, depth=4, components=8),
    optimizer=Optimizer(
        name="adam", learning_rate=2e-3, clip_norm=20, warmup_images=6400, decay="cosine"
    ),
    train_steps=3000,
    batch_size=64,
    ema=0.999,
    evaluate_every=500,
    evaluate_samples=16,
    log_every=50,
    temperature=1.0,
)
