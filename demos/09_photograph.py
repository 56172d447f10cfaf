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

PIXEL = 1 / 600
WIDTH, HEIGHT = 512 * PIXEL, 600 * PIXEL
FRAME = ((0, WIDTH), (0, HEIGHT))


# %% Darkness to a plate that sees blue, squared for contrast; walls as mirrors
def load():
    with get_sample_data("grace_hopper.jpg") as file:
        return (1 - 0.92 * imread(file)[..., 2] / 255) ** 2


def smoothed(dark, scale):
    return gaussian_filter(dark, scale / PIXEL, mode="reflect")


def fold(x):
    size = np.array([WIDTH, HEIGHT], x.dtype)
    return size - np.abs(x - 2 * size * np.floor(x / (2 * size)) - size)


def potential(q):
    """-log q, read from a table that continues as in mirrors."""
    V = -np.log(np.pad(q[::-1].T, [(0, n) for n in q.T.shape], mode="symmetric"))
    slope = np.stack(np.gradient(V, PIXEL), axis=-1).reshape(-1, 2).astype("float32")

    def at(x):
        i, j = np.moveaxis(np.floor(x * x.dtype.type(1 / PIXEL)).astype(int), -1, 0)
        return i % V.shape[0] * V.shape[1] + j % V.shape[1]

    return fl.Potential(
        lambda x: V.take(at(x)).astype(x.dtype),
        gradient=lambda x: slope.take(at(x), axis=0).astype(x.dtype, copy=False),
    )


# %% Dust to portrait, portrait to haze
def main(plot=True, out="figures"):
    dark, space = load(), fl.LangevinParticles(150_000, dtype="float32")
    rng = np.random.default_rng(0)  # each run takes a key of its own from it
    drawn = [space.project(fl.Uniform([0, 0], [WIDTH, HEIGHT]), rng)]
    for scale in 0.16 / 2.0 ** np.arange(7):
        q = smoothed(dark, scale)
        # Noise crosses the scale before, or, at first, the frame.
        t, h = (0, 16 * scale**2 if len(drawn) > 1 else 0.3), scale**2 / 4
        flow, scheme = space.flow(fl.kl(potential(q))), fl.LeimkuhlerMatthews()
        sol = fl.solve(flow, drawn[-1], t, scheme, dt=h, save_at=t[1:], rng=rng)
        drawn.append(fold(sol.u[-1]))

    cells = fl.Grid((0, WIDTH, 16), (0, HEIGHT, 19))
    exact = cells.project(fl.Density(q, extent=FRAME)) * cells.volume
    found = np.histogram2d(*drawn[-1].T, bins=cells.edges)[0] / space.n
    error = 0.5 * np.abs(found - exact).sum()
    # The mean of the same distance for independent draws from q.
    sampling = np.sqrt(exact * (1 - exact) / (2 * np.pi * space.n)).sum()

    flow = fl.Grid((0, WIDTH, 128), (0, HEIGHT, 150)).flow(fl.porous_medium(2))
    t, keep = np.geomspace(1e-5, 1e-2, 13), fl.Check(descent=True, mass=1e-12)
    photo, scheme = fl.Density(dark, extent=FRAME), fl.ImplicitEuler()
    haze = fl.solve(flow, photo, (0, t[-1]), scheme, dt=1.0, save_at=t, on_step=keep)

    if plot:
        plotting.save(draw(drawn, haze), "09_photograph.png", out, colors=64)
    if error > 1.5 * sampling:
        raise AssertionError(
            f"Distance {error:.3g}, {sampling:.3g} from sampling alone"
        )
    return {"error": error, "tolerance": 1.5 * sampling, "what": "TV to the photograph"}


# %% Ink on paper
def draw(drawn, haze):
    ink = "#14213d"
    figure, big, small = plotting.mosaic(
        3, 2, aspect=HEIGHT / WIDTH, ink=ink, paper="#f6efe0", family="serif",
        title="From dust to portrait, from portrait to haze",
        captions=(r"150 000 particles, $dX=\nabla\log q\,dt+\sqrt{2}\,dB$",
                  "coarse to fine", r"$\partial_t\rho=\Delta\rho^2$"),
    )  # fmt: skip
    panels = [(big, drawn[-1], 0.8)]
    panels += [(small[k, 0], drawn[i][::4], 0.4) for k, i in enumerate((0, 3, 5))]
    for ax, x, size in panels:
        ax.plot(*x.T, "o", ms=size, color=ink, alpha=0.6, mec="none")
        ax.set(xlim=FRAME[0], ylim=FRAME[1])
    for ax, i in zip(small[:, 1], (0, 4, 8), strict=True):
        ax.imshow(haze.u[i].T, plotting.fade(ink), origin="lower", vmin=0)
    return figure


if __name__ == "__main__":
    print(main())
