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


# %% Dust to portrait, and portrait to haze
def main(plot=True, out="figures"):
    dark = load()
    space = fl.LangevinParticles(N, dtype="float32")
    drawn = [space.project(fl.Uniform([0, 0], [WIDTH, HEIGHT]), rng=1)]
    for level in range(7):
        s = 0.16 / 2**level
        flow = space.flow(fl.Entropy(1.0) + potential(dark, s))
        t1 = 0.3 if level == 0 else 16 * s**2  # time to cross the scale before, 2 s
        sol = fl.solve(flow, drawn[-1], (0, t1), fl.LeimkuhlerMatthews(), dt=0.25 * s**2, save_at=[t1], rng=level)
        drawn.append(fold(sol.u[-1]))

    smooth = fl.Density(smoothed(dark, s), extent=FRAME)
    q = fl.Grid((0, WIDTH, 16), (0, HEIGHT, 19)).project(smooth)
    print(q.shape)


if __name__ == "__main__":
    print(main())
