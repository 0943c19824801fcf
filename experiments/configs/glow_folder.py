"""Glow on pictures of your own, brought to 32×32: `--data.name folder:PATH`.

    glowjax suggest folder:PATH
    glowjax train glow_folder --data.name folder:PATH

`glowjax suggest` says which options suit your pictures and your machine.
Time: with the options as they are, about 2 images a second and CPU core; use a GPU, or `suggest`.
Expected: depends on the pictures.
Source: Kingma & Dhariwal 2018; settings our own.
"""

from glowjax.runs import Config, Data, Glow, Optimizer

config = Config(
    data=Data(name="folder:pictures", resize=32),
    model=Glow(levels=3, steps=16, width=128, scale="floor"),
    optimizer=Optimizer(name="adam", learning_rate=1e-3, warmup_images=6400, decay="cosine"),
    train_steps=10_000,
    batch_size=64,
    evaluate_every=1000,
)
