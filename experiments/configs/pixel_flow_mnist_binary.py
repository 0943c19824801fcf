"""An autoregressive flow with a PixelCNN on black-and-white MNIST, cut at half grey (D = 784).

    glowjax train pixel_flow_mnist_binary --data.archives FOLDER_OF_THE_FOUR_GZ_FILES

It is a flow of the dequantized images: bits/dim bound those of the discrete ones from above, by the
more, the less sharply the mixtures step between the two halves of the interval.

Time: 2 min on one H100 that other runs shared.
Expected: 0.134 bits/dim on test, 105 bits or 73 nats an image.
Source: van den Oord et al. 2016 (net), Ho et al. 2019 (mixture CDF); settings our own.
"""

from glowjax.runs import Autoregressive, Config, Data, Optimizer, Transform

config = Config(
    data=Data(name="mnist", transform=Transform(bits=1)),
    model=Autoregressive(width=64, depth=6, kernel=5, components=10),
    optimizer=Optimizer(
        name="adam", learning_rate=1e-3, clip_norm=20, warmup_images=100_000, decay="cosine"
    ),
    train_steps=4_000,
    batch_size=128,
    ema=0.999,
    evaluate_every=2000,
    log_every=100,
    temperature=1.0,
)
