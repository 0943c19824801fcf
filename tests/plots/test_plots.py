import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from glowjax.densities.targets import grid
from glowjax.plots import charts, distributions, images, plane, style
from glowjax.plots.charts import curves, lines, loss_curve
from glowjax.plots.distributions import histogram_1d, histograms, intervals
from glowjax.plots.images import image_grid, image_rows, sample_sheet
from glowjax.plots.plane import animation, density_2d, density_frame, scatter_2d


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


@pytest.mark.slow
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


@pytest.mark.parametrize("channels", [4, 5, 13])
def test_of_many_channels_the_first_three_are_drawn(channels, tmp_path):
    images = random_images(5, 4, 6, channels)
    expected = np.asarray(image_grid(images[..., :3]))
    np.testing.assert_array_equal(image_grid(images), expected)
    sample_sheet(tmp_path / "sheet.png", real=images, samples=images[:2])
    image_rows(tmp_path / "rows.png", {"a": images, "b": images})
    scale = 1000 // (5 * 7)
    (first, *_) = (
        np.kron(image[..., :3], np.ones((scale, scale, 1), np.uint8)) for image in images
    )
    assert contains(pixels(tmp_path / "rows.png"), first)


def test_two_channels_are_drawn_side_by_side(tmp_path):
    images = random_images(5, 4, 6, 2)
    both = np.concatenate([images[..., :1], images[..., 1:]], axis=2)
    assert image_grid(images).mode == "L"
    np.testing.assert_array_equal(image_grid(images), image_grid(both))
    sample_sheet(tmp_path / "sheet.png", real=images, samples=images)
    with pytest.raises(ValueError, match=r"samples must .* real's, \(4, 6, 2\), got \(4, 12, 1\)"):
        sample_sheet(tmp_path / "sheet.png", real=images, samples=both)
    with pytest.raises(ValueError, match=r"frames must be of shape \[H, W, 3\], got \(4, 6, 4\)"):
        animation(tmp_path / "a.gif", random_images(2, 4, 6, 4))


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
        (np.zeros((8, 8, 1), np.uint8), {}, r"images must be \[N, H, W, C\].*\(8, 8, 1\)"),
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


def figure_of(monkeypatch, plot, path, *arguments, **options):
    """The figure that `plot` writes."""
    figures = []
    save = style.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    for module in (charts, distributions, images, plane):
        monkeypatch.setattr(module, "save", keep)
    plot(path, *arguments, **options)
    assert pixels(path).std() > 0
    return figures[0]


def drawn(monkeypatch, path, *arguments, **options):
    """The axes of the figure that `curves` writes."""
    return figure_of(monkeypatch, curves, path, *arguments, **options).axes[0]


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


# ----------------------------------------------------------- losses, histograms, the plane


def test_loss_curve_smooths_and_tells_of_what_is_above(monkeypatch, tmp_path):
    values = np.random.default_rng(0).normal(3, 0.1, 1000)
    values[[0, 1, 500]] = 1e6, np.nan, 1e6
    figure = figure_of(
        monkeypatch, loss_curve, tmp_path / "loss.png", values, every=5, ylabel="KL", title="A fit"
    )
    axes = figure.axes[0]
    raw, smooth = axes.lines
    np.testing.assert_array_equal(raw.get_xdata(), 5 * np.delete(np.arange(1, 1001), 1))
    assert smooth.get_ydata().std() < 0.05 and 2 < axes.get_ylim()[0] < axes.get_ylim()[1] < 5
    assert axes.get_ylabel() == "KL" and axes.get_title(loc="left") == "A fit"
    assert axes.get_title(loc="right") == "values up to 1e+06 lie above"


def gauss(x):
    return -0.5 * np.sum(np.square(x), axis=-1) - 0.5 * x.shape[-1] * np.log(2 * np.pi)


def test_histogram_has_area_one_and_the_densities_their_height(monkeypatch, tmp_path):
    data = np.random.default_rng(0).normal(size=4000)
    x = np.linspace(-5, 5, 201)
    models = {"function": gauss, "values": gauss(x[:, None] / 2) - np.log(2)}
    figure = figure_of(monkeypatch, histogram_1d, tmp_path / "h.png", data, x, models, bins=40)
    (axes,) = figure.axes
    stairs = axes.patches[0].get_data()
    np.testing.assert_allclose(np.sum(stairs.values * np.diff(stairs.edges)), 1)
    middle = (stairs.edges[1:] + stairs.edges[:-1]) / 2
    np.testing.assert_allclose(stairs.values, np.exp(gauss(middle[:, None])), atol=0.05)
    np.testing.assert_allclose(line(axes, "function").get_ydata(), np.exp(gauss(x[:, None])))
    np.testing.assert_allclose(line(axes, "values").get_ydata().max(), 0.1995, atol=1e-4)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["data", "function", "values"]


def test_a_histogram_counts_what_it_does_not_show(monkeypatch, tmp_path):
    data = np.concatenate([np.zeros(50), np.full(50, 9.0)])
    figure = figure_of(monkeypatch, histogram_1d, tmp_path / "h.png", data, [-1, 1], {}, bins=1)
    np.testing.assert_allclose(figure.axes[0].patches[0].get_data().values, [0.25])


def test_outlines_are_histograms_too(monkeypatch, tmp_path):
    outlines = {"a": [0.5, 0.5, 1.5, 7.0], "b": [1.5]}
    figure = figure_of(
        monkeypatch, histogram_1d, tmp_path / "h.png", [0.5], [0, 2], {}, outlines=outlines, bins=2
    )
    heights = [patch.get_data().values for patch in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [[1, 0], [0.5, 0.25], [0, 1]])


def peak(x):
    """Highest at (1, -2)."""
    return 500 + gauss(2 * (x - np.array([1.0, -2.0])))


def darkest(panel):
    """Where a square picture is darkest, in [0, 1] from left and from below."""
    row, column = np.unravel_index(panel.sum(-1).argmin(), panel.shape[:2])
    return column / panel.shape[1], 1 - row / panel.shape[0]


def test_densities_are_dark_where_they_are_high(monkeypatch, tmp_path):
    values = peak(np.asarray(grid((-4, 4), 50)[0])).reshape(50, 50)
    outside = np.full((50, 50), -np.inf)
    panels = {"function": peak, "values": values, "empty": outside}
    path = tmp_path / "density.png"
    figure = figure_of(monkeypatch, density_2d, path, panels, extent=(-4, 4), points=50)
    picture = pixels(path).astype(int)
    assert picture.shape[1] > 1400 and abs(picture.shape[1] / picture.shape[0] - 2.7) < 0.2
    assert [axes.get_title() for axes in figure.axes] == ["function", "values", "empty"]
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert abs(box.width - box.height) < 1 and axes.get_xlim() == axes.get_ylim() == (-4, 4)
        top = picture.shape[0] - round(box.y1)
        panel = picture[top : top + round(box.height), round(box.x0) : round(box.x1)][9:-9, 9:-9]
        if axes.get_title() == "empty":
            assert panel.min() == 255
        else:
            np.testing.assert_allclose(darkest(panel), [5 / 8, 2 / 8], atol=0.03)
            assert panel.sum(-1).min() < 150


def test_panels_go_in_columns_and_samples_on_their_own(monkeypatch, tmp_path):
    panels = dict.fromkeys("abcde", peak)
    points = np.random.default_rng(0).normal(size=(30, 2))
    options = {"extent": (-4, 4), "samples": {"d": points}, "points": 20, "columns": 2}
    figure = figure_of(monkeypatch, density_2d, tmp_path / "d.png", panels, **options)
    dots = [axes.collections for axes in figure.axes]
    assert [len(d) for d in dots] == [0, 0, 0, 1, 0]
    np.testing.assert_array_equal(dots[3][0].get_offsets(), points)
    assert not any(len(axes.lines) for axes in figure.axes)
    left, bottom = np.array([axes.get_position().p0 for axes in figure.axes]).T
    assert len(np.unique(left.round(6))) == 2 and len(np.unique(bottom.round(6))) == 3


def test_curves_go_on_their_own_panel(monkeypatch, tmp_path):
    curves = {"b": [[[0, 1], [2, 3]], [[0, 0], [1, 1], [2, 0]]]}
    options = {"extent": (-4, 4), "curves": curves, "points": 20}
    panels = dict.fromkeys("ab", peak)
    a, b = figure_of(monkeypatch, density_2d, tmp_path / "d.png", panels, **options).axes
    assert not len(a.lines)
    np.testing.assert_array_equal(b.lines[1].get_xydata(), curves["b"][1])


def test_groups_have_their_colours(monkeypatch, tmp_path):
    panels = {"a": np.eye(2), "b": np.eye(2)}
    options = {"groups": {"b": [1, 0]}, "extent": (0, 1)}
    a, b = figure_of(monkeypatch, scatter_2d, tmp_path / "s.png", panels, **options).axes
    first, second = b.collections[0].get_facecolors()
    assert (first != second).any()
    assert (a.collections[0].get_facecolors() == second).all()


def test_scatter_has_one_scale_that_outliers_do_not_set(monkeypatch, tmp_path):
    data = np.random.default_rng(0).normal(size=(5000, 2))
    data[0] = 1e6
    panels = {"Data": data, "Samples": 2 * data[1:]}
    figure = figure_of(monkeypatch, scatter_2d, tmp_path / "s.png", panels)
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(limits) == 1
    (across, up) = limits.pop()
    assert across == up and -9 < across[0] < -4 and 4 < across[1] < 9
    for axes, points in zip(figure.axes, panels.values(), strict=True):
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), points)


def test_frames_are_the_picture_of_the_density(tmp_path):
    values = peak(np.asarray(grid((-4, 4), 50)[0])).reshape(50, 50)
    frame = density_frame({"a": values}, extent=(-4, 4), dpi=200)
    density_2d(tmp_path / "d.png", {"a": values}, extent=(-4, 4), points=50)
    np.testing.assert_array_equal(frame, pixels(tmp_path / "d.png"))
    small = density_frame({"another title": values}, extent=(-4, 4), dpi=50)
    assert small.dtype == np.uint8 and small.shape == (frame.shape[0] // 4, frame.shape[1] // 4, 3)


def test_animation_holds_every_frame(tmp_path):
    x = np.asarray(grid((-4, 4), 40)[0])
    frames = [
        density_frame({"a": gauss(x - t).reshape(40, 40)}, extent=(-4, 4), dpi=50)
        for t in (-2.0, -1.0, 0.0, 1.0)
    ]
    animation(tmp_path / "a.gif", frames, fps=10, hold=0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(tmp_path / "a.gif") as gif:
        assert len(ImageSequence.all_frames(gif)) == 4 and gif.info["loop"] == 0
        durations = []
        for i, frame in enumerate(frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.all(shown[0] == 255)  # the background, exactly
            assert np.abs(shown - frame).mean() < 1 and np.abs(shown - frame).max() < 20
            assert np.abs(shown - frames[i - 1]).max() > 100
    assert durations == [100, 100, 100, 600]


BLANK = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (lambda path: loss_curve(path, [[1.0]]), r"values must be of shape \[n\], got \(1, 1\)"),
        (lambda path: loss_curve(path, [np.nan]), "values must be finite, one at least"),
        (lambda path: loss_curve(path, [1.0], every=0), "every must be a whole number"),
        (lambda path: histogram_1d(path, [], [0, 1], {}), r"data must be of shape \[n\]"),
        (lambda path: histogram_1d(path, [1.0], [1, 0], {}), "grid must be .* increasing"),
        (
            lambda path: histogram_1d(path, [1.0], [0, 1], {"m": [1.0]}),
            r"log-density 'm' must be of shape \[2\], got \(1,\)",
        ),
        (lambda path: histogram_1d(path, [1.0], [0, 1], {}, bins=0), "bins must be"),
        (lambda path: density_2d(path, {}, extent=(0, 1)), "panels must be one at least"),
        (lambda path: scatter_2d(path, {}), "panels must be one at least"),
        (lambda path: density_2d(path, {"a": peak}, extent=(1, 0)), "extent must be"),
        (
            lambda path: density_2d(path, {"a": np.zeros((3, 4))}, extent=(0, 1), points=3),
            r"log-density 'a' must be of shape \[3, 3\], got \(3, 4\)",
        ),
        (
            lambda path: density_2d(path, {"a": lambda x: x}, extent=(0, 1), points=3),
            r"log-density 'a' must be of shape \[9\], got \(9, 2\)",
        ),
        (
            lambda path: density_2d(
                path, {"a": peak}, extent=(0, 1), points=3, samples={"b": np.zeros((1, 2))}
            ),
            r"samples must be for one of the panels, \['a'\], got 'b'",
        ),
        (
            lambda path: density_2d(
                path, {"a": peak}, extent=(0, 1), points=3, curves={"b": [np.zeros((1, 2))]}
            ),
            r"curves must be for one of the panels, \['a'\], got 'b'",
        ),
        (
            lambda path: histogram_1d(path, [1.0], [0, 1], {}, outlines={"o": [[1.0]]}),
            r"o must be of shape \[n\]",
        ),
        (
            lambda path: scatter_2d(path, {"a": np.zeros((3, 2))}, groups={"a": [0]}),
            r"groups 'a' must be of shape \[n\]",
        ),
        (
            lambda path: scatter_2d(path, {"a": np.zeros(3)}),
            r"points 'a' must be of shape \[n, 2\]",
        ),
        (
            lambda path: scatter_2d(path, {"a": np.zeros((3, 2))}, columns=0),
            "columns must be a whole number",
        ),
        (lambda path: intervals(path, {}, xlabel="x"), "values must be one at least"),
        (lambda path: intervals(path, {"a": (0.0, -1.0)}, xlabel="x"), "value 'a' must be finite"),
        (
            lambda path: intervals(path, {"a": (float("nan"), 0.0)}, xlabel="x"),
            "value 'a' must be finite",
        ),
        (lambda path: animation(path, []), "frames must be one at least"),
        (lambda path: animation(path, [BLANK, BLANK[:3]]), "frames must be of one shape"),
        (lambda path: animation(path, [BLANK / 2]), "frames must be uint8"),
        (lambda path: animation(path, [BLANK[..., :1]]), r"frames must be of shape \[H, W, 3\]"),
        (lambda path: animation(path, [BLANK], fps=0), r"fps must be in 1\.\.50"),
        (lambda path: animation(path, [BLANK], hold=-1), "hold must be at least 0"),
    ],
)
def test_plots_refuse_and_write_nothing(tmp_path, plot, message):
    with pytest.raises(ValueError, match=message):
        plot(tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_intervals_show_numbers_with_their_errors(tmp_path, monkeypatch):
    values = {"first": (1.0, 0.25), "second": (3.0, 0.5)}
    figure = figure_of(
        monkeypatch, intervals, tmp_path / "plot.png", values, xlabel="nats", reference=2.0
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(values)
    assert axes.yaxis_inverted()  # the first is at the top
    (bars,) = (c for c in axes.collections if len(c.get_segments()) == 2)
    np.testing.assert_allclose(bars.get_segments(), [[[0.75, 0], [1.25, 0]], [[2.5, 1], [3.5, 1]]])
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [2.0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "3.00"]


def test_lines_draws_every_panel_with_and_without_errors(tmp_path):
    x = np.arange(1.0, 5.0)
    bars = {"a": np.stack([x, x, x / 10], -1), "b": np.stack([x, -x, x / 10], -1)}
    both = {"one": bars, "two": {"a": np.stack([x, x], -1)}}
    path = tmp_path / "lines.png"
    lines(path, both, xlabel="n", ylabel="y", levels={"one": 0.0}, log_x=True)
    picture = pixels(path)
    assert picture.shape[1] > 900
    for colour in ((0x2A, 0x65, 0xA5), (0xC4, 0x45, 0x2D)):
        assert (np.abs(picture.astype(int) - colour) < 8).all(-1).any()  # thin lines are blended
    lines(path, {"one": bars}, xlabel="n", ylabel="y", limits={"one": (0, 1)})
    assert pixels(path).shape[:2] == (720, 1280)


def test_lines_on_logarithmic_axes(monkeypatch, tmp_path):
    curve = {"error": [[1, 1e-3], [10, 1e-5]]}
    options = {"xlabel": "n", "ylabel": "error", "log_x": True, "log_y": True}
    (axes,) = figure_of(monkeypatch, lines, tmp_path / "l.png", {"p": curve}, **options).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    np.testing.assert_array_equal(line(axes, "error").get_xydata(), curve["error"])


def test_lines_refuses_what_it_cannot_draw(tmp_path):
    path, curve = tmp_path / "lines.png", np.zeros((3, 2))
    with pytest.raises(ValueError, match="panels must be one at least"):
        lines(path, {}, xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match=r"curve 'a' must be of shape \[n, 2\]"):
        lines(path, {"p": {"a": np.zeros(3)}}, xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="levels and limits must be for a panel"):
        lines(path, {"p": {"a": curve}}, xlabel="x", ylabel="y", levels={"q": 0.0})
    assert not path.exists()


def test_histograms_share_bins_in_a_panel_and_colours_in_all(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=3000), rng.normal(4, 1, 1000)
    panels = {"first": {"own": own, "other": other}, "second": {"other": other, "own": 9 * own}}
    figure = figure_of(monkeypatch, histograms, tmp_path / "h.png", panels, bins=30)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["first", "second"]
    a, b = (patch.get_data() for patch in first.patches)
    np.testing.assert_array_equal(a.edges, b.edges)
    for histogram, values in ((a, own), (b, other)):
        area = np.sum(histogram.values * np.diff(histogram.edges))
        seen = np.mean((values >= a.edges[0]) & (values <= a.edges[-1]))
        np.testing.assert_allclose(area, seen)
        assert seen > 0.97
    colours = [patch.get_facecolor() for patch in (*first.patches, *second.patches)]
    assert colours[0] == colours[3] != colours[1] == colours[2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["own", "other"]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_hold_their_images_unsampled_and_named(monkeypatch, tmp_path, channels):
    rows = {"first": random_images(3, 4, 4, channels), "second one": random_images(3, 4, 4, 1)}
    rows["second one"] = np.broadcast_to(255 - rows["second one"], (3, 4, 4, channels))
    path = tmp_path / "rows.png"
    figure = figure_of(monkeypatch, image_rows, path, rows)
    assert [text.get_text() for text in figure.texts] == list(rows)
    sheet = image_grid(np.concatenate(list(rows.values())), columns=3, scale=1000 // 15)
    sheet = np.asarray(sheet.convert("RGB"))
    picture = pixels(path)
    assert picture.shape[0] == sheet.shape[0]
    np.testing.assert_array_equal(picture[:, -sheet.shape[1] :], sheet)
    assert (picture[:, : -sheet.shape[1]] < 128).any()
