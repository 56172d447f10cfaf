"""Grace Hopper, drawn by Langevin particles and dissolved in a porous medium.

    dX = grad log q(X) dt + sqrt(2) dB    and    d_t rho = Lap rho^2

q is the darkness of a photograph (U.S. Navy; the file ships with matplotlib). Particles
start as even dust and sample q smoothed at seven scales, from coarse to fine, by the
scheme of Leimkuhler and Matthews (doi:10.1093/amrx/abs010); walls reflect. The density
itself then follows the porous-medium equation (doi:10.1081/PDE-100002243), whose
diffusivity 2 rho melts the dark parts first.
"""

# %%
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread
from scipy.ndimage import gaussian_filter

import flows as fl
from flows import plotting

N = 200_000
PIXEL = 1 / 600
WIDTH, HEIGHT = 512 * PIXEL, 600 * PIXEL
FRAME = ((0, WIDTH), (0, HEIGHT))


# %% Darkness seen by a plate that is sensitive to blue, squared for contrast
def load():
    with get_sample_data("grace_hopper.jpg") as file:
        blue = imread(file)[..., 2] / 255
    return (1 - 0.92 * blue) ** 2


def fold(x):
    """Mirror the plane into the frame."""
    size = np.array([WIDTH, HEIGHT], x.dtype)
    return size - np.abs(x - 2 * size * np.floor(x / (2 * size)) - size)


def potential(dark, scale):
    """-log of the darkness smoothed at ``scale``; a table that mirrors at the frame."""
    V = -np.log(smoothed(dark, scale)[::-1].T)
    V = np.pad(V, [(0, n) for n in V.shape], mode="symmetric")
    slope = np.stack(np.gradient(V, PIXEL), axis=-1, dtype="float32").reshape(-1, 2)

    def place(x):
        i = np.floor(x * x.dtype.type(1 / PIXEL)).astype(int)
        return i[..., 0] % V.shape[0] * V.shape[1] + i[..., 1] % V.shape[1]

    return fl.Potential(
        lambda x: V.take(place(x)).astype(x.dtype),
        gradient=lambda x: slope.take(place(x), axis=0).astype(x.dtype, copy=False),
    )


def smoothed(dark, scale):
    return gaussian_filter(dark, scale / PIXEL, mode="reflect")


# %% Dust to portrait, portrait to haze
def main(plot=True, out="figures"):
    dark, space = load(), fl.LangevinParticles(150_000, dtype="float32")
    rng = np.random.default_rng(0)  # each run takes its own key from it
    drawn = [space.project(fl.Uniform([0, 0], [WIDTH, HEIGHT]), rng)]
    for scale in 0.16 / 2.0 ** np.arange(7):
        flow = space.flow(fl.Entropy(1.0) + potential(dark, scale))
        # The time in which noise crosses the scale before; the first crosses the frame.
        t1 = max(16 * scale**2, 0.3 * (scale == 0.16))
        sol = fl.solve(
            flow, drawn[-1], (0, t1), fl.LeimkuhlerMatthews(), dt=scale**2 / 4,
            save_at=[t1], rng=rng,
        )
        drawn.append(fold(sol.u[-1]))

    cells = fl.Grid((0, WIDTH, 16), (0, HEIGHT, 19))
    q = cells.project(fl.Density(smoothed(dark, scale), extent=FRAME)) * cells.volume
    counts = np.histogram2d(*drawn[-1].T, bins=cells.edges)[0] / space.n
    error = 0.5 * np.abs(counts - q).sum()
    sampling = np.sqrt(q * (1 - q) / (2 * np.pi * space.n)).sum()  # of independent draws

    grid = fl.Grid((0, WIDTH, 128), (0, HEIGHT, 150))
    rho = fl.Density(dark, extent=FRAME)
    haze = fl.solve(
        grid.flow(fl.porous_medium(2)), rho, (0, 0.01), fl.ImplicitEuler(), dt=1,
        save_at=np.geomspace(1e-5, 1e-2, 13), on_step=fl.Check(descent=True, mass=1e-12),
    )

    if plot:
        plotting.save(draw(drawn, haze), "09_photograph.png", out, colors=64)
    if error > 1.5 * sampling:
        raise AssertionError(f"Total variation {error:.3g}, sampling alone {sampling:.3g}")
    return {"error": error, "tolerance": 1.5 * sampling, "what": "TV to the photograph"}


# %% Ink on paper
def draw(drawn, haze):
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    paper, ink = "#f6efe0", "#14213d"
    tone = LinearSegmentedColormap.from_list("tone", [paper, "#8a93a5", ink])
    figure = Figure(figsize=(7, 5.68), facecolor=paper)
    grid = figure.add_gridspec(
        3, 3, width_ratios=(3.06, 1, 1), wspace=0.035, hspace=0.03,
        left=0.013, right=0.987, bottom=0.06, top=0.895,
    )
    panels = [(grid[:, 0], -1, 0.5), *((grid[k, 1], 2 * k, 0.03) for k in range(3))]
    for place, k, size in panels:
        ax = figure.add_subplot(place, xlim=FRAME[0], ylim=FRAME[1], aspect="equal")
        ax.scatter(*drawn[k].T, s=size, color=ink, alpha=0.65, linewidths=0)
        ax.set_axis_off()
    for k, i in enumerate((0, 4, 8)):
        ax = plotting.plot_image(haze, figure.add_subplot(grid[k, 2]), i=i, cmap=tone)
        ax.set_title("")
        ax.set_axis_off()
    words = [
        (0.945, 15, "bold", "From dust to portrait, from portrait to haze"),
        (0.03, 9, "normal", r"150 000 particles of $dX = \nabla\log q\,dt + \sqrt{2}\,dB$"),
    ]
    for y, size, weight, text in words:
        figure.text(0.013, y, text, color=ink, size=size, weight=weight, va="center", family="serif")
    return figure


if __name__ == "__main__":
    print(main())
