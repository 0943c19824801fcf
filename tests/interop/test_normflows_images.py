"""Weights of normflows' flows of images: the likelihoods and the samples of the library itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted import check_log_prob, check_round_trip, example, log_prob, stirred

import glowjax
from glowjax.interop.normflows import from_normflows

torch = pytest.importorskip("torch")
nf = pytest.importorskip("normflows")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch

COUNT, CLASSES = 4, 3
LABELS = np.arange(COUNT) % CLASSES
AffineGaussian, ByClass = nf.distributions.AffineGaussian, nf.distributions.ClassCondDiagGaussian
DiagGaussian, GlowBase = nf.distributions.DiagGaussian, nf.distributions.GlowBase
GlowBlock, Merge, Squeeze = nf.flows.GlowBlock, nf.flows.Merge, nf.flows.Squeeze


def ready(model):
    """A model whose ActNorms are initialised, with every parameter moved."""
    for module in model.modules():
        if hasattr(module, "data_dep_init_done"):
            module.data_dep_init_done = torch.tensor(1.0)
    return stirred(model)


def images(shape):
    """In (0, 1), `[B, H, W, C]`."""
    return np.random.default_rng(0).uniform(0.02, 0.98, (COUNT, *shape))


def theirs(x):
    """`[B, C, H, W]`, an array of its own: `Shift` writes into it."""
    return np.moveaxis(np.asarray(x), -1, 1).copy()


def expected(model, x, labels=None):
    """The log-likelihoods of the library; only a model of classes wants labels."""
    if isinstance(model, nf.NormalizingFlow):
        return log_prob(model, theirs(x))
    return log_prob(model, theirs(x), LABELS if labels is None else labels)


def check(model, shape, labels=None):
    flow, params = from_normflows(model)
    x = images(shape)
    check_log_prob(flow, params, x, expected(model, x, labels), labels)
    check_round_trip(flow, params, x, labels)
    return flow, params


# ----------------------------------------------------------------------------- single flows


def flow_of(*flows, shape):
    """A `NormalizingFlow` of images that keeps their shape."""
    height, width, channels = shape
    return ready(nf.NormalizingFlow(DiagGaussian((channels, height, width)), list(flows)))


def block(channels, **options):
    torch.manual_seed(0)
    return flow_of(GlowBlock(channels, 5, **options), shape=(3, 4, channels))


BLOCKS = {
    "glow": (4, {}),
    "no LU": (3, {"use_lu": False}),
    "exp": (3, {"scale_map": "exp", "split_mode": "channel_inv"}),
    "sigmoid_inv": (4, {"scale_map": "sigmoid_inv", "split_mode": "channel_inv", "leaky": 0.3}),
    "additive": (5, {"scale": False, "leaky": 0.1}),
    "actnorm in the net": (4, {"net_actnorm": True}),
    "checkerboard": (1, {"split_mode": "checkerboard"}),
    "inverted checkerboard": (3, {"split_mode": "checkerboard_inv", "scale_map": "exp"}),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_the_same_likelihood(name):
    channels, options = BLOCKS[name]
    check(block(channels, **options), (3, 4, channels))


def test_nets_have_other_kernels_and_widths():
    net = nf.nets.ConvNet2d([2, 4, 7, 5, 4], [1, 5, 3, 3], leaky=0.2)
    shape = (3, 4, 4)
    check(flow_of(nf.flows.AffineCouplingBlock(net, split_mode="channel"), shape=shape), shape)


def test_constants_of_all_numbers_and_permutations_have_the_same_likelihood():
    shape = (2, 3, 4)
    constant = nf.flows.AffineConstFlow((4, 2, 3))
    check(flow_of(constant, nf.flows.Permute(4), nf.flows.ActNorm((4, 1, 1)), shape=shape), shape)


def test_a_squeeze_has_the_same_order_of_channels():
    model = ready(nf.NormalizingFlow(DiagGaussian((12, 2, 3)), [Squeeze()]))
    flow, params = check(model, (4, 6, 3))
    assert flow.forward(params, images((4, 6, 3)))[0].shape == (COUNT, 2, 3, 12)


def test_blocks_that_are_alike_become_a_loop():
    model = flow_of(*(GlowBlock(2, 3) for _ in range(3)), GlowBlock(2, 4), shape=(2, 2, 2))
    flow, params = from_normflows(model)
    assert [len(jax.tree.leaves(part)[0]) for part in params[:2]] == [2, 3]
    assert repr(flow).count("repeat(") == 1
    check_log_prob(flow, params, images((2, 2, 2)), expected(model, images((2, 2, 2))))


# ------------------------------------------------------------------------------- multiscale


def stages(shape, levels, mode):
    """Of each level from data to latents: its channels, and the shape `[C, H, W]` of its latent."""
    height, width, channels = shape
    for level in range(levels):
        height, width, channels = height // 2, width // 2, 4 * channels
        within = channels
        if level < levels - 1 and mode.startswith("channel"):
            channels //= 2
        elif level < levels - 1:
            width //= 2
        yield within, (channels, height, width)


def multiscale(
    shape, levels, *, base=GlowBase, mode="channel", transform=None, class_cond=False, **options
):
    """As in the library's examples: two blocks and a squeeze a level."""
    torch.manual_seed(0)
    bases, flows = [], []
    for channels, latent in reversed(list(stages(shape, levels, mode))):
        bases.append(base(latent))
        flows.append([*(GlowBlock(channels, 5, **options) for _ in range(2)), Squeeze()])
    merges = [Merge(mode) for _ in range(levels - 1)]
    return ready(nf.MultiscaleFlow(bases, flows, merges, transform, class_cond))


def of_classes(base):
    return functools.partial(base, num_classes=CLASSES)


def affine_gaussian(shape, **options):
    return AffineGaussian(shape, (shape[0], 1, 1), **options)


LARGE, SMALL, WIDE = (8, 8, 2), (4, 8, 1), (4, 16, 1)
MODELS = {
    "one level": lambda: (multiscale(SMALL, 1, use_lu=False), SMALL),
    "two levels": lambda: (multiscale(SMALL, 2, base=DiagGaussian), SMALL),
    "three levels": lambda: (multiscale(LARGE, 3, leaky=0.2), LARGE),
    "first half leaves": lambda: (
        multiscale(SMALL, 2, mode="channel_inv", split_mode="channel_inv", scale=False),
        SMALL,
    ),
    "checkerboards": lambda: (
        multiscale(WIDE, 2, mode="checkerboard", split_mode="checkerboard"),
        WIDE,
    ),
    "inverted checkerboards": lambda: (
        multiscale(SMALL, 2, mode="checkerboard_inv", scale_map="sigmoid_inv"),
        SMALL,
    ),
    "fixed bases": lambda: (
        multiscale(SMALL, 2, base=lambda latent: DiagGaussian(latent, trainable=False)),
        SMALL,
    ),
    "affine bases": lambda: (multiscale(SMALL, 2, base=affine_gaussian), SMALL),
    "logit": lambda: (multiscale(SMALL, 1, transform=nf.transforms.Logit(0.1)), SMALL),
    "shift": lambda: (multiscale(SMALL, 1, transform=nf.transforms.Shift(-0.4)), SMALL),
    "diagonal of classes": lambda: (
        multiscale(SMALL, 2, base=of_classes(ByClass), class_cond=True),
        SMALL,
    ),
    "channels of classes": lambda: (
        multiscale(SMALL, 2, base=of_classes(GlowBase), class_cond=True),
        SMALL,
    ),
    "affine of classes": lambda: (
        multiscale(SMALL, 2, base=of_classes(affine_gaussian), class_cond=True),
        SMALL,
    ),
}
FAST = {"channels of classes"}


def check_samples(model, flow, params, shape, labels):
    """Raises `AssertionError` unless equal draws of the normal lead to equal images."""
    shapes = jax.eval_shape(flow.forward, params, jnp.asarray(images(shape)), labels)[0]
    random = np.random.default_rng(1)
    z = tuple(random.normal(size=latent.shape) for latent in shapes)
    draws = iter([torch.tensor(theirs(latent)) for latent in reversed(z)])
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "randn", lambda *_, **__: next(draws))
        drawn = model.sample(COUNT, None if labels is None else torch.tensor(labels))[0]
    found = jax.jit(glowjax.density(flow, shape).decode)(params, z, labels)
    np.testing.assert_allclose(theirs(found), drawn.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in MODELS]
)
def test_a_multiscale_flow_has_the_same_likelihood_and_samples(name):
    model, shape = MODELS[name]()
    labels = LABELS if model.class_cond else None
    flow, params = check(model, shape, labels)
    check_samples(model, flow, params, shape, labels)
    if labels is not None:
        others = (labels + 1) % CLASSES
        assert np.all(
            np.abs(expected(model, images(shape)) - expected(model, images(shape), others)) > 1e-3
        )


def test_of_an_odd_number_of_channels_the_same_ones_leave():
    """Without a squeeze; the level next to the latents is empty."""
    shape = (2, 2, 5)
    for mode, leaving in (("channel", 2), ("channel_inv", 3)):
        bases = [DiagGaussian((5 - leaving, 2, 2)), DiagGaussian((leaving, 2, 2))]
        flows = [[], [nf.flows.ActNorm((5, 1, 1))]]
        shift = nf.transforms.Shift()  # the library's sums begin with a log-determinant of its
        model = ready(nf.MultiscaleFlow(bases, flows, [Merge(mode)], shift, class_cond=False))
        flow, params = check(model, shape)
        check_samples(model, flow, params, shape, None)


def test_the_latents_are_those_of_the_library_whitened():
    model = multiscale(SMALL, 2, base=lambda latent: DiagGaussian(latent, trainable=False))
    flow, params = from_normflows(model)
    z, log_det = flow.forward(params, images(SMALL))
    with torch.no_grad():
        latents, log_dets = model.inverse_and_log_det(torch.tensor(theirs(images(SMALL))))
    np.testing.assert_allclose(log_det, log_dets, rtol=1e-10)
    for ours, latent in zip(z, reversed(latents), strict=True):
        np.testing.assert_allclose(theirs(ours), latent.numpy(), rtol=1e-9, atol=1e-9)


def test_a_flow_of_classes_has_the_same_likelihood():
    shape = (2, 3, 2)
    model = ready(nf.ClassCondFlow(ByClass((2, 2, 3), CLASSES), [GlowBlock(2, 4)]))
    check(model, shape, LABELS)


@pytest.mark.slow
def test_a_multiscale_flow_can_be_trained_further():
    flow, params = from_normflows(multiscale(SMALL, 2))
    model = glowjax.density(flow, SMALL)
    gradients = jax.jit(jax.grad(lambda p: -jnp.mean(model.log_prob(p, images(SMALL)))))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    still = {str(n[-1]) for n, leaf in jax.tree.leaves_with_path(gradients) if not np.any(leaf)}
    assert still == {"['bias']"}  # of ActNorms, which `shift` takes the place of


@pytest.mark.float32
def test_likelihoods_in_float32():
    model = multiscale(SMALL, 2, net_actnorm=True).float()
    flow, params = from_normflows(model)
    x = images(SMALL).astype(np.float32)
    check_log_prob(flow, params, x, expected(model.double(), x.astype(np.float64)))


@pytest.mark.slow
@pytest.mark.float32
def test_the_example_of_the_page_runs():
    names = {}
    exec(example("from_normflows"), names)
    due = log_prob(names["trained"], np.zeros((5, 1, 8, 8), np.float32), np.arange(5))
    np.testing.assert_allclose(names["log_p"], due, rtol=1e-5)
    assert names["new"].shape == (5, 8, 8, 1) and np.all(np.isfinite(names["new"]))


# --------------------------------------------------------------------------------- refusals


def changed(change, model=None):
    model = multiscale(SMALL, 2) if model is None else model
    change(model)
    return model


def one_level(*flows, base=GlowBase, transform=None):
    return nf.MultiscaleFlow([base((4, 2, 2))], [list(flows)], [], transform, class_cond=False)


REFUSED = {
    "merge": (
        lambda: changed(lambda model: model.merges.__setitem__(0, nf.flows.Split())),
        "merges must be Merge of normflows alone, got 'Split'",
    ),
    "mode of a merge": (
        lambda: changed(lambda model: setattr(model.merges[0], "mode", "rows")),
        "mode of Merge must be one of 'channel', 'channel_inv', .* got 'rows'",
    ),
    "number of merges": (
        lambda: changed(lambda model: model.merges.append(Merge())),
        r"MultiscaleFlow must be of 2 lists of flows and 1 merges, got \(2, 2\)",
    ),
    "base": (
        lambda: one_level(base=nf.distributions.base.Uniform),
        "base must be one of AffineGaussian, .* of normflows, got 'Uniform'",
    ),
    "temperature": (
        lambda: changed(lambda model: model.set_temperature(0.7)),
        "GlowBase must be one that glowjax has, got one with a temperature",
    ),
    "classes without labels": (
        lambda: multiscale(SMALL, 1, base=of_classes(GlowBase)),
        "MultiscaleFlow must be .* got one with class_cond=False and a base of classes",
    ),
    "classes in a plain flow": (
        lambda: nf.NormalizingFlow(ByClass((4, 2, 2), CLASSES), []),
        "NormalizingFlow must be .* got one with a ClassCondDiagGaussian of classes as its base",
    ),
    "transform": (
        lambda: one_level(transform=nf.flows.BatchNorm()),
        "flow must be one of ActNorm, .* of normflows, got 'BatchNorm'",
    ),
    "alpha": (
        lambda: one_level(transform=nf.transforms.Logit(0.5)),
        "Logit must be one of an alpha below 0.5, got 'alpha=0.5'",
    ),
    "actnorm": (
        lambda: one_level(GlowBlock(4, 5)),
        "ActNorm must be one that glowjax has, got one with no initialisation by data yet",
    ),
    "actnorm in a net": (
        lambda: one_level(nf.flows.GlowBlock(4, 5, net_actnorm=True).flows[0]),
        "ActNorm must be one that glowjax has, got one with no initialisation by data yet",
    ),
    "scale map": (
        lambda: one_level(GlowBlock(4, 5, scale_map="tanh").flows[0]),
        "scale_map must be one of 'exp', 'sigmoid', 'sigmoid_inv', got 'tanh'",
    ),
    "net": (
        lambda: one_level(nf.flows.AffineCouplingBlock(torch.nn.Conv2d(2, 4, 3, padding=1))),
        "Conv2d must be one that glowjax has, got one with convolutions, and no ConvNet2d",
    ),
    "constant": (
        lambda: one_level(nf.flows.AffineConstFlow((4, 2))),
        "AffineConstFlow must be of vectors or images.* got \\(4, 2\\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_named(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        from_normflows(make())


def test_images_and_labels_that_do_not_fit_are_named():
    shape = (2, 2, 2)
    model = ready(nf.ClassCondFlow(ByClass((2, 2, 2), CLASSES), []))
    flow, params = from_normflows(model)
    with pytest.raises(ValueError, match="context must be integer labels of shape"):
        flow.forward(params, images(shape))
    with pytest.raises(ValueError, match=r"x must be of events to which \(2, 2, 2\) broadcasts"):
        flow.forward(params, images((2, 4, 2)), LABELS)


def test_shapes_that_cannot_be_split_are_named():
    flow, params = from_normflows(block(1, split_mode="checkerboard"))
    with pytest.raises(ValueError, match="x must be of an even width, got 3"):
        flow.forward(params, images((4, 3, 1)))
    bases = [DiagGaussian((1, 2, 2)), DiagGaussian((1, 2, 2))]
    flow, params = from_normflows(ready(nf.MultiscaleFlow(bases, [[], []], [Merge()])))
    with pytest.raises(ValueError, match="x must be of at least 2 channels to be split"):
        flow.forward(params, images((2, 2, 1)))
    latent, kept = np.ones((1, 2, 2, 1)), np.ones((1, 2, 2, 3))
    with pytest.raises(ValueError, match=r"z must be two halves \(latent, kept\)"):
        flow.inverse(params, (latent, kept))
