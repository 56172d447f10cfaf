"""Figures: labels, limits, what is drawn, and nothing global."""

import dataclasses
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import flows as fl
from flows import plotting

WELL = fl.Entropy(0.3) + fl.Potential("(x**2 - 1)**2 / 4")
BOWL = fl.quadratic([1.0, 4.0])


def on_grid():
    flow = fl.Grid((-3, 3, 60)).flow(WELL)
    return fl.solve(flow, fl.Gaussian(1.0, 0.3), (0, 1), fl.ImplicitEuler(), dt=0.1)


def on_plane():
    flow = fl.Grid((-2, 2, 16), (-3, 3, 20)).flow(fl.Entropy(1.0) + BOWL)
    start = fl.Gaussian([0.5, 0.5], 0.3)
    return fl.solve(flow, start, (0, 1), fl.ImplicitEuler(), dt=0.1)


def on_quantiles():
    flow = fl.Quantiles(40).flow(WELL)
    return fl.solve(flow, fl.Gaussian(1.0, 0.3), (0, 1), fl.JKO(), dt=0.1)


def as_path():
    flow = fl.Euclidean().flow(BOWL)
    return fl.solve(flow, [1.0, 1.0], (0, 2), fl.RK4(), dt=0.1)


def as_paths():
    flow = fl.Euclidean().flow(BOWL)
    starts = np.array([[1.0, 1.0], [-1.0, 0.5], [0.2, -1.0]])
    return fl.solve(flow, starts, (0, 2), fl.RK4(), dt=0.1)


def as_components():
    flow = fl.Euclidean().flow(fl.quadratic([1.0, 2.0, 3.0]))
    return fl.solve(flow, [1.0, 1.0, 1.0], (0, 2), fl.RK4(), dt=0.1)


def on_line():
    flow = fl.LangevinParticles(500).flow(WELL)
    start = fl.Gaussian(1.0, 0.3)
    return fl.solve(flow, start, (0, 1), fl.EulerMaruyama(), dt=0.1, rng=0)


def as_cloud():
    flow = fl.Particles(50).flow(BOWL)
    start = fl.Gaussian([0.0, 0.0], 1.0)
    return fl.solve(flow, start, (0, 1), fl.Heun(), dt=0.1, rng=0)


RUNS = [
    on_grid,
    on_plane,
    on_quantiles,
    as_path,
    as_paths,
    as_components,
    on_line,
    as_cloud,
]


def drawn(ax):
    """Everything on an Axes that holds data."""
    return [*ax.lines, *ax.images, *ax.collections, *ax.patches]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_every_space_has_a_labelled_picture_and_changes_nothing_global(run, tmp_path):
    before = dict(mpl.rcParams)
    sol = run()
    axes = plotting.plot(sol)
    assert isinstance(axes, np.ndarray)
    assert all(isinstance(ax, Axes) for ax in axes)
    for ax in axes:
        assert drawn(ax), "an empty picture"
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    if sol.energy is not None:
        points = run.__name__ in ("as_path", "as_paths", "as_components")
        name = "$V(x(t))" if points else r"$F(\rho(t))"
        assert axes[-1].get_ylabel().startswith(name)
        assert axes[-1].get_yscale() == "log"
    assert plotting.save(axes, "a.png", tmp_path).stat().st_size > 2000
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_a_given_axes_is_used_and_returned(run):
    ax = Figure().add_subplot()
    assert run().plot(ax) is ax
    assert drawn(ax)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_every_space_is_animated(run, tmp_path):
    from PIL import Image

    path = run().animate(tmp_path / "a.gif", frames=4)
    with Image.open(path) as image:
        assert image.n_frames == 4
        frames = []
        for k in range(4):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB"), dtype=float))
    assert np.abs(frames[0] - frames[-1]).max() > 50, "nothing moves"


def test_plotting_never_loads_pyplot():
    script = (
        "import sys, flows as fl; from flows import plotting;"
        "assert 'matplotlib' not in sys.modules;"
        "f = fl.Euclidean().flow(fl.quadratic([1.0, 4.0]));"
        "s = fl.solve(f, [1.0, 1.0], (0, 1), fl.RK4(), dt=0.1);"
        "s.plot(); g = fl.Grid((-3, 3, 20)).flow(fl.kl('x**2/2'));"
        "fl.solve(g, fl.Gaussian(), (0, 1), fl.ImplicitEuler(), dt=0.1).plot();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_density_curve_of_quantiles_is_the_density():
    sol = on_quantiles()
    ax = plotting.plot_density(sol, count=2, bar=False)
    x, rho = ax.lines[-1].get_data()
    X = sol.u[-1]
    np.testing.assert_allclose(rho * np.diff(X) * X.size, 1.0)
    np.testing.assert_allclose(x, 0.5 * (X[1:] + X[:-1]))


def test_density_lines_start_at_the_first_and_end_at_the_last_state():
    sol = on_grid()
    ax = plotting.plot_density(sol, count=4)
    assert len(ax.lines) == 4
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), sol.u[0])
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), sol.u[-1])


def test_the_times_on_the_color_bar_are_those_of_the_lines():
    sol = on_grid()
    ax = plotting.plot_density(sol, count=4)
    (bar,) = ax.child_axes
    texts = [label.get_text() for label in bar.get_yticklabels()]
    assert len(texts) == 4
    assert (texts[0], texts[-1]) == ("0", "1")


def test_the_color_bar_is_as_high_as_a_picture_of_fixed_aspect():
    ax, _ = plotting.new_axes(2, width=9.0)
    ax.set(xlim=(0, 4), ylim=(0, 1), aspect="equal")
    bar = plotting.time_bar(ax, [0.0, 1.0])
    ax.figure.draw_without_rendering()
    picture, field = ax.get_window_extent(), bar.ax.get_window_extent()
    assert picture.height < 0.6 * ax.figure.bbox.height
    np.testing.assert_allclose([field.y0, field.y1], [picture.y0, picture.y1], atol=0.5)


@pytest.mark.parametrize("ticks", [True, False])
def test_a_legend_below_covers_neither_the_picture_nor_its_axis(ticks):
    (ax,) = plotting.new_axes()
    ax.plot([0, 1], [0, 1], label="a")
    ax.plot([0, 1], [1, 0], label="b")
    if ticks:
        ax.set_xlabel("time $t$")
    else:
        ax.set_xticks([])
    legend = plotting.legend(ax, below=True, columns=2, title="two")
    figure = ax.figure
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    axis = ax.xaxis.get_tightbbox()
    assert box.y1 <= min(ax.bbox.y0, axis.y0 if ticks else ax.bbox.y0)
    assert box.y0 >= 0.0
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_the_image_of_a_density_lies_where_the_grid_does():
    sol = on_plane()
    (image,) = plotting.plot_image(sol, bar=True).images
    assert tuple(image.get_extent()) == (-2.0, 2.0, -3.0, 3.0)
    np.testing.assert_array_equal(np.asarray(image.get_array()), sol.u[-1].T)


def test_the_energy_gap_is_measured_from_the_floor():
    sol = as_path()
    ax = plotting.plot_energy(sol, floor=0.0, rate=2.0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), sol.energy)
    t, bound = ax.lines[1].get_data()
    np.testing.assert_allclose(bound, sol.energy[0] * np.exp(-2.0 * t))
    exact = 0.5 * np.exp(-2.0 * t) + 2.0 * np.exp(-8.0 * t)
    assert (exact <= bound * (1 + 1e-12)).all()


def test_without_a_floor_the_last_energy_is_left_out_and_the_label_says_so():
    ax = plotting.plot_energy(as_path())
    assert np.isnan(ax.lines[0].get_ydata()[-1])
    assert ax.get_ylabel() == r"$V(x(t)) - \min V$"
    assert plotting.plot_energy(as_path(), floor=0.0).get_ylabel() == "$V(x(t))$"
    below = plotting.plot_energy(as_path(), floor=-1.0)
    assert below.get_ylabel() == r"$V(x(t)) - V_\infty$"


def test_energies_of_a_batch_are_one_line_each():
    ax = plotting.plot_energy(as_paths(), floor=0.0, label="V")
    assert len(ax.lines) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["V"]


def test_exact_densities_are_drawn_over_curves_and_histograms():
    law = fl.Gaussian(1.0, 0.5)
    for ax in (
        plotting.plot_density(on_grid(), exact=law),
        plotting.plot_particles(on_line(), exact=law),
    ):
        line = ax.lines[-1]
        np.testing.assert_allclose(line.get_ydata(), law.pdf(line.get_xdata()))
        assert "exact" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_histogram_of_particles_has_mass_one():
    (stairs,) = plotting.plot_particles(on_line()).patches
    values, edges, _ = stairs.get_data()
    assert np.sum(values * np.diff(edges)) == pytest.approx(1.0)


def test_coincident_particles_have_a_histogram():
    sol = on_line()
    still = dataclasses.replace(sol, u=np.ones_like(sol.u))
    (stairs,) = plotting.plot_particles(still).patches
    assert np.sum(stairs.get_data()[0]) > 0


def test_particles_in_space_show_two_coordinates():
    flow = fl.Particles(30).flow(fl.quadratic([1.0, 2.0, 3.0]))
    start = fl.Gaussian([0.0, 0.0, 0.0], 1.0)
    sol = fl.solve(flow, start, (0, 1), fl.Heun(), dt=0.1, rng=0)
    ax = plotting.plot_particles(sol)
    assert ax.get_xlabel() == "$x_1$"
    assert len(ax.collections[0].get_offsets()) == 30


def test_levels_cut_the_area_into_equal_parts():
    ax = plotting.plot_levels(fl.quadratic(1.0), box=((-1, 1), (-1, 1)), count=4)
    levels = ax.collections[0].levels
    # In the square [-1, 1]^2 a disk of radius sqrt(1/pi) has a quarter of the area, and
    # V there is 1/(2 pi); the tolerance is the pixel grid's.
    assert levels[1] == pytest.approx(1 / (2 * np.pi), rel=0.02)
    assert ax.get_xlim() == (-1.0, 1.0)


def test_no_level_of_a_potential_is_as_white_as_the_paper():
    fills = plotting.plot_levels(BOWL).collections[0]
    colors = np.asarray(fills.to_rgba(0.5 * (fills.levels[1:] + fills.levels[:-1])))
    on_paper = 1.0 - fills.get_alpha() * (1.0 - colors[:, :3])
    assert on_paper.min(axis=1).max() < 0.95


def test_levels_of_a_constant_potential_are_an_empty_picture():
    ax = plotting.plot_levels(fl.Potential("0*x + 0*y + 1"))
    assert not ax.collections


def test_tensors_are_drawn():
    torch = pytest.importorskip("torch")
    flow = fl.Euclidean(device="cpu").flow(BOWL)
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    sol = fl.solve(flow, start, (0, 1), fl.RK4(), dt=0.1)
    assert drawn(plotting.plot(sol)[0])


def test_a_solution_from_a_file_is_drawn(tmp_path):
    fl_grid = on_grid()
    loaded = fl.load(fl_grid.save(tmp_path / "a.npz"))
    axes = plotting.plot(loaded)
    assert len(axes) == 2
    assert drawn(axes[0])


def test_one_state_alone_is_drawn():
    flow = fl.Grid((-3, 3, 20)).flow(WELL)
    sol = fl.solve(flow, fl.Gaussian(), (0, 0), fl.ImplicitEuler(), dt=0.1)
    axes = plotting.plot(sol)
    assert len(axes) == 1, "one energy is no curve"


def test_a_start_at_rest_has_no_energy_picture():
    flow = fl.Euclidean().flow(BOWL)
    sol = fl.solve(flow, [0.0, 0.0], (0, 1), fl.RK4(), dt=0.1)
    assert len(plotting.plot(sol)) == 1
    with pytest.raises(ValueError, match="no gap to plot"):
        plotting.plot_energy(sol)


def test_the_relief_and_the_mosaic_fill_their_panels():
    figure, big, small = plotting.mosaic(
        3,
        2,
        aspect=1.2,
        title="T",
        captions=("a", "b", "c"),
        ink="white",
        paper="black",
    )
    assert small.shape == (3, 2)
    width, height = figure.get_size_inches()
    for ax in (big, *small.flat):
        box = ax.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(1.2)
        assert box.x1 < 1.0
        assert box.y1 < 1.0
    assert small[0, -1].get_position().x1 * width == pytest.approx(width - 0.09)
    assert small[0, 0].get_position().y1 == pytest.approx(big.get_position().y1)
    assert [text.get_text() for text in figure.texts] == ["T", "a", "b", "c"]
    x, y = np.meshgrid(np.arange(6.0), np.arange(8.0), indexing="ij")
    (image,) = plotting.plot_relief(x * y, big, ((0, 3), (0, 4))).images
    assert tuple(image.get_extent()) == (0, 3, 0, 4)
    assert image.get_array().shape[:2] == (8, 6)


def test_fade_starts_transparent_and_ends_opaque():
    colors = plotting.fade("#ff0000", "#ffffff")
    assert colors(0.0) == pytest.approx((1.0, 0.0, 0.0, 0.0))
    assert colors(1.0) == pytest.approx((1.0, 1.0, 1.0, 1.0))


def test_a_palette_makes_a_smaller_file(tmp_path):
    ax = plotting.plot_relief(np.random.default_rng(0).random((60, 60)))
    full = plotting.save(ax, "full.png", tmp_path).stat().st_size
    assert plotting.save(ax, "less.png", tmp_path, colors=32).stat().st_size < full
    assert plotting.save(ax.figure, "a.pdf", tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda p: plotting.plot_density(as_path()),
            TypeError,
            "densities on the line",
        ),
        (lambda p: plotting.plot_image(on_grid()), TypeError, "two-dimensional Grid"),
        (
            lambda p: plotting.plot_path(as_components()),
            TypeError,
            "use plot_components",
        ),
        (
            lambda p: plotting.plot_particles(on_grid()),
            TypeError,
            r"particles \(n, d\)",
        ),
        (lambda p: plotting.plot_energy(on_line()), ValueError, "no energy to plot"),
        (lambda p: plotting.plot_levels(fl.Entropy(1.0)), ValueError, "no potential"),
        (lambda p: plotting.plot_relief(np.zeros(3)), ValueError, r"array \(nx, ny\)"),
        (lambda p: plotting.new_axes(0), ValueError, "at least 1"),
        (lambda p: plotting.mosaic(0, aspect=1.0), ValueError, "rows and columns"),
        (lambda p: plotting.fade(), ValueError, "at least one color"),
        (lambda p: as_path().animate(p / "a.mp4"), ValueError, "must end in .gif"),
        (lambda p: as_path().animate(p / "a.gif", frames=1), ValueError, "at least 2"),
        (
            lambda p: plotting.save(plotting.new_axes(), "a.pdf", p, colors=9),
            ValueError,
            "palette of 2 to 256",
        ),
    ],
)
def test_wrong_requests_say_what_would_be_right(call, error, text, tmp_path):
    with pytest.raises(error, match=text):
        call(tmp_path)


def test_second_order_flows_show_their_positions(tmp_path):
    V = fl.Potential("x**4/4")
    for space in (fl.HeavyBall(0.5), fl.Nesterov()):
        start = space.start([2.0])
        sol = fl.solve(space.flow(V), start, (0, 5), fl.RK4(), dt=0.1)
        ax = sol.plot()[0]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x$", "velocity $v$")
        assert sol.animate(tmp_path / "phase.gif", frames=3).exists()
        plane = fl.Potential("x**4/4 + y**2")
        start = space.start([2.0, 1.0])
        sol = fl.solve(space.flow(plane), start, (0, 5), fl.RK4(), dt=0.1)
        ax = sol.plot()[0]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x$", "$y$")
        assert len(ax.collections) > 1
        three = fl.quadratic([1.0, 2.0, 3.0])
        start = space.start([1.0, 1.0, 1.0])
        sol = fl.solve(space.flow(three), start, (0, 5), fl.RK4(), dt=0.1)
        assert len(sol.plot()[0].lines) == 3
