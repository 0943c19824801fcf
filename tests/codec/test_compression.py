"""Any image comes back bit for bit, in as many bits as the model claims; damage is always found."""

import functools
import hashlib

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax.codec import compress, compression, container, decompress, nets, streams
from glowjax.codec.batches import BatchCoder
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import FRACTION

SHAPE = (4, 4, 2)
pytestmark = pytest.mark.xdist_group("codec")  # so that what was compiled serves all tests


def mixed(mixing):
    """A small flow with a linear map of channels."""
    coupling = glowjax.AffineCoupling(functools.partial(glowjax.ConvNet, width=4))
    parts = glowjax.ActNorm(), mixing, coupling
    return glowjax.chain(*map(glowjax.as_flow, parts))


FLOWS = {
    "glow": lambda: glowjax.glow(levels=2, steps=2, width=4),
    "additive": lambda: glowjax.glow(levels=1, steps=1, width=4, coupling="additive"),
    "lu": lambda: glowjax.glow(levels=1, steps=1, width=4, mixing="conv1x1_lu", scale="exp"),
    "shuffle": lambda: glowjax.glow(levels=1, steps=1, width=4, mixing="shuffle", scale="tanh"),
    "reverse": lambda: glowjax.glow(levels=1, steps=1, width=4, mixing="reverse", ring=False),
    "realnvp": lambda: glowjax.chain(
        logit=glowjax.as_flow(glowjax.Logit(0.05)),
        couplings=glowjax.realnvp(levels=2, width=2, blocks=1),
    ),
    "svd": lambda: mixed(glowjax.InvertibleConv1x1("svd")),
    "jet": lambda: glowjax.jet(patch=2, steps=1, channel_couplings=1, width=4, blocks=1, heads=2),
    "single scale": lambda: glowjax.realnvp_single_scale(width=2, blocks=1),
}


@functools.cache
def model_of(name, size=0.1):
    """A density and params that are far from those of a start."""
    model = glowjax.density(FLOWS[name](), SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (8, *SHAPE))
    params = model.init(jax.random.key(0), glowjax.bin_centres(images))
    return model, perturbed(params, size, 1)


def perturbed(params, size, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + size * rng.normal(size=a.shape).astype(a.dtype), params)


def assert_comes_back(model, params, images, **options):
    data = compress(model, params, images, batch=4, **options)
    back, labels = decompress(model, params, data)
    np.testing.assert_array_equal(back, images)
    assert back.dtype == np.uint8
    np.testing.assert_equal(labels, options.get("labels"))
    return container.unpack(data)[0]


def extremes(count):
    """Images that a model has not seen: of one level, and of the highest contrast."""
    board = 255 * (np.indices(SHAPE).sum(axis=0) % 2)
    return np.stack([np.full(SHAPE, 0), np.full(SHAPE, 255), board, 255 - board] * count)[:count]


@pytest.mark.float32
def test_images_come_back_in_the_bits_that_the_model_claims():
    model, params = model_of("glow", 0.01)
    codec, coder = BatchCoder(model, params, SHAPE, 256, 4), Coder.seeded(5)
    rng, claimed = np.random.default_rng(1), 0.0
    images = rng.integers(0, 256, (64, *SHAPE))
    for some in np.split(images, 16):
        x = codec.dequantized(some, coder).astype(np.float32) / 2**FRACTION
        claimed -= float(model.log_prob(params, x).sum()) / np.log(2)
        assert not len(codec.push(some, None, None, coder))
    assert coder.bits == pytest.approx(claimed + 8 * images.size, rel=1e-3)
    for some in reversed(np.split(images, 16)):
        back, _ = codec.pop(4, np.zeros(0, np.int64), None, coder)
        np.testing.assert_array_equal(back, some)
    assert coder.holds_only_seed()


@pytest.mark.float32
@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), *map(st.just, SHAPE))))
def test_any_image_comes_back(images):
    assert_comes_back(*model_of("glow"), images)


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("name", FLOWS)
def test_images_unlike_any_come_back_through_each_flow(name):
    noise = np.random.default_rng(0).integers(0, 256, (6, *SHAPE))
    assert_comes_back(*model_of(name), np.concatenate([noise, extremes(5)]))


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("name", ["glow", "lu", "realnvp"])
@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    images=hnp.arrays(np.uint8, (6, *SHAPE)),
    size=st.sampled_from([0.0, 0.3, 3.0, 1e3, 1e30]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_images_come_back_with_any_weights(name, images, size, seed):
    model, params = model_of(name)
    params = perturbed(params, size, seed)
    try:
        assert_comes_back(model, params, np.concatenate([images, extremes(2)]))
    except ValueError as error:  # the product of LU's factors is singular in float64
        assert name == "lu" and size >= 1e3
        assert "weight must be finite and invertible" in str(error)


@pytest.mark.float32
def test_images_that_leave_fixed_point_are_stored_as_they_are():
    model, params = model_of("glow")
    scale = params["backbone"]["level1"]["steps"]["actnorm"]["log_scale"]
    huge = jax.tree.map(lambda a: a, params)
    huge["backbone"]["level1"]["steps"]["actnorm"]["log_scale"] = scale + 3
    images = np.concatenate([np.full((3, *SHAPE), 128), extremes(4)])
    header = assert_comes_back(model, huge, images)
    assert header.raw


@pytest.mark.float32
def test_a_batch_may_be_filled_up_with_what_grows_beyond_all_bounds():
    step = glowjax.chain(*map(glowjax.as_flow, (glowjax.ActNorm(), glowjax.InvertibleConv1x1())))
    model = glowjax.density(glowjax.repeat(step, 64), SHAPE)
    # The triangular factors of W alone, without its scales, stretch 0 + bias by 2.6 in each step.
    to = {"log_scale": 0.0, "bias": 100.0, "shift": 0.0, "weight": 0.4 * np.array([[1, 1], [1, 0]])}
    params = jax.tree.map_with_path(
        lambda path, a: jnp.broadcast_to(to[path[-1].key], a.shape),
        model.init(jax.random.key(0), jnp.ones((1, *SHAPE))),
    )
    assert not assert_comes_back(model, params, extremes(3)).raw


@pytest.mark.slow
@pytest.mark.float32
def test_labels_are_stored():
    flow = glowjax.glow(levels=1, steps=1, width=4, num_classes=3)
    model, labels = glowjax.density(flow, SHAPE), np.array([2, 0, 1, 1, 2])
    images = np.random.default_rng(0).integers(0, 17, (5, *SHAPE))
    params = model.init(jax.random.key(0), glowjax.bin_centres(images, levels=17), labels)
    params = perturbed(params, 0.1, 0)
    assert assert_comes_back(model, params, images, levels=17, labels=labels).classes == 3
    with pytest.raises(ValueError, match="labels"):
        compress(model, params, images, levels=17)
    with pytest.raises(ValueError, match="labels must be None: the model is not conditional"):
        compress(*model_of("glow"), images, labels=labels)


@pytest.mark.float32
def test_two_streams_come_back_image_by_image(monkeypatch):
    monkeypatch.setattr(compression, "ALONE", 8)
    monkeypatch.setattr(streams, "CHECKED", 3)
    images = np.random.default_rng(0).integers(0, 256, (15, *SHAPE))
    header = assert_comes_back(*model_of("glow"), images)
    rows = [[sum(row) for row in batches] for batches in header.batches]
    assert [sum(row) for row in rows] == [7, 8]
    assert all(count >= 3 for row in rows for count in row[:-1])
    assert [len(checksums) for checksums in header.checksums] == [len(row) for row in rows]


@pytest.mark.float32
def test_one_program_serves_all_weights():
    model, params = model_of("glow")
    given = params, perturbed(params, 1e-3, 2)
    flows = [BatchCoder(model, weights, SHAPE, 256, 4).flow for weights in given]
    first, second = map(jax.tree.structure, flows)
    assert first == second
    assert hash(first) == hash(second)
    first, second = (jax.tree.map(lambda a: (a.shape, a.dtype), flow) for flow in flows)
    assert first == second


@pytest.fixture(scope="module")
def file():
    """A small model, its images and their file."""
    with jax.enable_x64(False):
        model, params = model_of("glow")
        images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE))
        return model, params, images, compress(model, params, images, batch=4)


@pytest.mark.float32
def test_each_of_a_thousand_damages_is_found(file):
    model, params, _, data = file
    rng = np.random.default_rng(0)
    for number in range(1000):
        damaged = damage(data, number % 5, rng)
        assert damaged != data
        with pytest.raises(ValueError, match="data must be"):
            decompress(model, params, damaged)


def damage(data, kind, rng):
    """Data with a bit flipped, cut short, with bytes added, changed, or moved to the end."""
    at, length = int(rng.integers(len(data) - 16)), int(rng.integers(1, 9))
    block = data[at : at + length]
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data + rng.bytes(length)
    if kind == 3:
        return data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
    moved = data[:at] + data[at + length :] + block
    return moved if moved != data else data[:-1]


@pytest.mark.float32
def test_another_model_is_refused(file):
    model, params, _, data = file
    with pytest.raises(ValueError, match="model must be the file's"):
        decompress(model, perturbed(params, 1e-6, 0), data)
    with pytest.raises(ValueError, match="model must be the file's"):
        decompress(*model_of("reverse"), data)


@pytest.mark.float32
def test_a_device_that_rounds_otherwise_is_refused_and_another_version_is_not(file, monkeypatch):
    model, params, images, data = file
    here = compression.made_with()
    monkeypatch.setattr(compression, "made_with", lambda: here | {"jax": "9.9.9"})
    np.testing.assert_array_equal(decompress(model, params, data)[0], images)
    monkeypatch.setattr(BatchCoder, "repeats", lambda *_, **__: "others")
    with pytest.raises(ValueError, match=r"device must be one on .* made, by .*got .*jax 9\.9\.9"):
        decompress(model, params, data)


@pytest.mark.float32
@pytest.mark.parametrize("name", ["glow", pytest.param("realnvp", marks=pytest.mark.slow)])
def test_a_device_whose_nets_differ_in_the_last_bits_reads_the_file(name, monkeypatch):
    model, params = model_of(name)
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE))
    data, rng = compress(model, params, images, batch=4), np.random.default_rng(1)
    prepared = nets.prepared

    def off_by(error):
        def elsewhere(module, params):
            module, variables = prepared(module, params)
            return module, jax.tree.map(lambda a: differ(a, error), variables)

        monkeypatch.setattr(nets, "prepared", elsewhere)

    def differ(array, error):
        """Nets in whole numbers have the same floats everywhere but the last, in float64."""
        if array.dtype != np.float64:
            return array
        return array * (1 + error * rng.uniform(-1, 1, array.shape))

    off_by(2**-44)
    np.testing.assert_array_equal(decompress(model, params, data)[0], images)
    off_by(1e-3)
    with pytest.raises(ValueError, match="device must be one on"):
        decompress(model, params, data)


@pytest.mark.float32
def test_nets_that_do_not_repeat_are_found(file):
    model, params, _, data = file
    header, (stored,) = container.unpack(data)
    words = stored.words.copy()
    words[-3] ^= 1
    forged = container.pack(header, [stored._replace(words=words)])
    with pytest.raises(
        ValueError, match=r"images must be those of numbers .* that were compressed"
    ):
        decompress(model, params, forged)


def test_the_file_ends_with_its_digest(file):
    assert hashlib.sha256(file[-1][:-32]).digest() == file[-1][-32:]


@pytest.mark.parametrize(
    ("flow", "named"),
    [
        (lambda: glowjax.as_flow(glowjax.ElementwiseFlow(glowjax.affine())), "ElementwiseFlow"),
        (lambda: glowjax.as_flow(glowjax.Coupling(glowjax.mixture_cdf(2))), "mixture_cdf"),
        pytest.param(
            lambda: glowjax.flowpp(width=4, blocks=1),
            r"composed\(.*mixture_cdf",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: glowjax.tarflow(patch=2, steps=1, width=4, blocks=1, heads=2),
            "Autoregressive",
            marks=pytest.mark.slow,
        ),
        (lambda: glowjax.as_flow(glowjax.Logit(0.0)), "alpha of Logit"),
        (lambda: glowjax.as_flow(glowjax.ActNorm())._replace(), "recorded"),
    ],
)
def test_flows_without_an_exact_form_are_refused_by_name(flow, named):
    model = glowjax.density(flow(), SHAPE)
    images = np.zeros((2, *SHAPE), np.uint8)
    params = model.init(jax.random.key(0), jnp.zeros((2, *SHAPE)))
    with pytest.raises(ValueError, match=named):
        compress(model, params, images)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (np.zeros((0, *SHAPE), np.uint8), "images must be .*one at least"),
        (np.zeros((2, 4, 4, 3), np.uint8), "images must be of the shape"),
        (np.zeros((2, *SHAPE)), "images must be integers"),
        (np.full((2, *SHAPE), 256), "images must be in 0..255"),
    ],
)
def test_other_images_are_refused(images, named):
    with pytest.raises(ValueError, match=named):
        compress(*model_of("glow"), images)
