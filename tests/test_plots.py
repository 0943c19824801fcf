import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from glowjax.plots import curves, image_grid, sample_sheet


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def contains(picture, part):
    """Whether `part` is somewhere in `picture`, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, part.shape)[:, :, 0]
    corners = np.argwhere((windows[:, :, 0, 0, :] == part[0, 0]).all(-1))
    return any((windows[i, j] == part).all() for i, j in corners)


def test_import_does_not_load_matplotlib():
    code = "import sys, glowjax; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_every_image(channels):
    images = random_images(5, 4, 6, channels)
    sheet = np.asarray(image_grid(images, columns=3, padding=2, scale=1, background=7))
    sheet = sheet.reshape(10, 22, channels)
    covered = np.zeros((10, 22), bool)
    for i, image in enumerate(images):
        place = np.s_[6 * (i // 3) :, 8 * (i % 3) :]
        np.testing.assert_array_equal(sheet[place][:4, :6], image)
        covered[place][:4, :6] = True
    assert (sheet[~covered] == 7).all()


def test_grid_enlarges_by_nearest_neighbour():
    images = random_images(4, 3, 3, 1)
    once, thrice = (np.asarray(image_grid(images, scale=scale)) for scale in (1, 3))
    np.testing.assert_array_equal(thrice, np.kron(once, np.ones((3, 3), np.uint8)))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((64, 8, 8, 1), (994, 994)),  # 8 × 8 images of 8 pixels and 7 gaps, enlarged 14 times
        ((1, 8, 8, 3), (1000, 1000)),
        ((7, 8, 8, 1), (980, 476)),  # 4 columns: one place is empty
        ((10, 28, 28, 1), (864, 342)),  # 5 columns: none is
        ((4, 600, 600, 3), (1201, 1201)),
    ],
)
def test_grid_chooses_columns_and_scale(shape, size):
    assert image_grid(np.zeros(shape, np.uint8)).size == size


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((2, 8, 8, 1)), {}, "images must be uint8, got float64"),
        (np.zeros((8, 8, 1), np.uint8), {}, r"images must be \[N, H, W, 1 or 3\].*\(8, 8, 1\)"),
        (np.zeros((2, 8, 8, 2), np.uint8), {}, r"images must be .*\(2, 8, 8, 2\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), {}, r"images must be .*\(0, 8, 8, 1\)"),
        (
            np.zeros((2, 8, 8, 1), np.uint8),
            {"columns": 0},
            "columns must be a whole number of at least 1, got 0",
        ),
        (
            np.zeros((2, 8, 8, 1), np.uint8),
            {"padding": -1},
            "padding must be a whole number of at least 0, got -1",
        ),
        (
            np.zeros((2, 8, 8, 1), np.uint8),
            {"scale": 0},
            "scale must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_grid_refuses(images, options, message):
    with pytest.raises(ValueError, match=message):
        image_grid(images, **options)


@pytest.mark.parametrize(("real", "samples", "channels"), [(8, 8, 1), (2, 8, 3), (1, 1, 1)])
@pytest.mark.parametrize("title", [None, "A title"])
def test_sheet_holds_both_grids_unsampled(tmp_path, real, samples, channels, title):
    images = random_images(real + samples, 8, 8, channels)
    real, samples = images[:real], images[real:]
    sample_sheet(tmp_path / "sheet.png", real=real, samples=samples, title=title)
    sheet = pixels(tmp_path / "sheet.png")
    columns, scale = (1, 1000 // 9) if len(samples) == 1 else (4, 1000 // 36)
    for part in (real, samples):
        grid = image_grid(part, columns=columns, scale=scale).convert("RGB")
        assert contains(sheet, np.asarray(grid))


def test_sheet_refuses_images_of_two_shapes(tmp_path):
    real, samples = random_images(2, 8, 8, 1), random_images(2, 8, 8, 3)
    with pytest.raises(ValueError, match=r"samples must .*\(8, 8, 1\), got \(8, 8, 3\)"):
        sample_sheet(tmp_path / "sheet.png", real=real, samples=samples)
    with pytest.raises(ValueError, match="samples must be uint8, got float64"):
        sample_sheet(tmp_path / "sheet.png", real=real, samples=real / 255)
    assert not list(tmp_path.iterdir())


def drawn(monkeypatch, path, *arguments, **options):
    """The axes of the figure that `curves` writes."""
    figures = []
    save = sys.modules["glowjax.plots"]._save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr("glowjax.plots._save", keep)
    curves(path, *arguments, **options)
    assert pixels(path).std() > 0
    return figures[0].axes[0]


def line(axes, label):
    return next(line for line in axes.lines if line.get_label().startswith(label))


def run(steps=1000, every=10):
    train = [
        {"step": i, "images": 128 * i, "train_bits_per_dim": 2 + 800 / (i + 1), "learning_rate": 1}
        for i in range(0, steps, every)
    ]
    validation = [
        {"step": i, "validation_bits_per_dim": 3 + (i - 400) ** 2 / 1e6}
        for i in range(100, steps, 100)
    ]
    return sorted(train + validation, key=lambda row: row["step"])


def test_curves_against_images_seen(monkeypatch, tmp_path):
    axes = drawn(monkeypatch, tmp_path / "curves.png", run(), title="A run")
    assert axes.get_xlabel() == "images seen"
    np.testing.assert_allclose(
        line(axes, "validation").get_xdata(), 128 * np.arange(100, 1000, 100)
    )
    best = line(axes, "best")
    assert best.get_label() == "best validation: 3.000"
    assert (*best.get_xdata(), *best.get_ydata()) == (128 * 400, 3)


def test_curves_leave_the_first_values_out_and_say_so(monkeypatch, tmp_path):
    axes = drawn(monkeypatch, tmp_path / "curves.png", run())
    low, high = axes.get_ylim()
    assert 2 < low < 3 < high < 30
    assert axes.get_title(loc="right") == "values up to 802 lie above"


def test_curves_show_every_baseline(monkeypatch, tmp_path):
    baselines = {"near": 3.1, "nearer": 3.09, "far": 40.0, "below": 1.0}
    axes = drawn(monkeypatch, tmp_path / "curves.png", run(), baselines=baselines)
    low, high = axes.get_ylim()
    assert low < 1 < 40 < high
    labels = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert list(labels) == ["below 1.00", "nearer 3.09", "near 3.10", "far 40.00"]
    assert np.diff(list(labels.values())).min() >= 0.049 * (high - low)


def test_curves_smooth_the_training_curve(monkeypatch, tmp_path):
    noise = np.random.default_rng(0).normal(3, 0.1, 1000)
    noise[500] = 1e6
    history = [{"step": i, "train_bits_per_dim": x} for i, x in enumerate(noise)]
    axes = drawn(monkeypatch, tmp_path / "curves.png", history)
    assert axes.get_xlabel() == "steps"
    assert line(axes, "train").get_ydata().std() < 0.05


def test_curves_of_a_resumed_run_count_the_later_row(monkeypatch, tmp_path):
    history = [{"step": i, "train_bits_per_dim": x} for i, x in ((1, 5), (2, 9), (2, 4), (3, 3))]
    axes = drawn(monkeypatch, tmp_path / "curves.png", history)
    np.testing.assert_array_equal(line(axes, "train").get_xydata(), [[1, 5], [2, 4], [3, 3]])


@pytest.mark.parametrize("name", ["train", "validation"])
def test_curves_of_one_finite_value(monkeypatch, tmp_path, name):
    history = [{"step": i, f"{name}_bits_per_dim": x} for i, x in ((1, 3.0), (2, np.nan))]
    axes = drawn(monkeypatch, tmp_path / "curves.png", history)
    np.testing.assert_array_equal(line(axes, name).get_xydata(), [[1, 3]])


@pytest.mark.parametrize("history", [[], [{"step": 1, "train_bits_per_dim": np.inf}]])
def test_curves_refuse_a_history_without_values(tmp_path, history):
    with pytest.raises(ValueError, match=f"history must have .*got none in {len(history)} rows"):
        curves(tmp_path / "curves.png", history)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_picture(monkeypatch, tmp_path):
    path = tmp_path / "curves.png"
    curves(path, run())
    before = path.read_bytes()

    def fail(self, target):
        assert self.read_bytes().startswith(b"\x89PNG")
        raise OSError("killed here")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="killed here"):
        curves(path, run(steps=500))
    assert path.read_bytes() == before
