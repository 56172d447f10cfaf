"""Water and heat on a real landscape.

    dx/dt = -grad V(x)    and    d_t rho = div(rho grad V) + T Lap rho

V is the elevation around the Jacksboro fault, Tennessee (a file that ships with
matplotlib). A thousand points run downhill in one call and end in a thousand hollows.
Even rain first stands in every hollow, and only after times exponential in barrier/T
(H. A. Kramers, doi:10.1016/S0031-8914(40)90098-2) settles into the lowest valleys, in
the Gibbs state exp(-V/T) that the scheme keeps exactly (doi:10.1109/T-ED.1969.16566).
"""

# %%
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.collections import LineCollection
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import gaussian_filter

import flows as fl
from flows import plotting

T = 25.0  # meters: the height a particle climbs by chance


# %% Elevation in meters on cells (east, north), their size in kilometers
def load():
    with get_sample_data("jacksboro_fault_dem.npz") as data:
        degree = 6371 * np.pi / 180
        slant = np.cos(np.radians(data["ymin"] + data["ymax"]) / 2)
        size = float(data["dx"]) * degree * slant, float(data["dy"]) * degree
        return data["elevation"][::-1].T.astype(float), size


def potential(z, size, margin=8):
    """Smooth surface through the cells, mirrored at the border: nothing flows out."""
    z = np.pad(gaussian_filter(z, 3.0, mode="reflect"), margin, mode="symmetric")
    axes = [
        (np.arange(n) - margin + 0.5) * h for n, h in zip(z.shape, size, strict=True)
    ]
    surface = RectBivariateSpline(*axes, z)

    def at(x, **order):
        return surface(x[..., 0], x[..., 1], grid=False, **order)

    return fl.Potential(at, gradient=lambda x: np.stack([at(x, dx=1), at(x, dy=1)], -1))


# %% One energy, two flows
def main(plot=True, out="figures"):
    z, size = load()
    V, (width, height) = potential(z, size), np.multiply(z.shape, size)
    starts = np.random.default_rng(1).random((1000, 2)) * [width, height]
    downhill, dt = fl.Euclidean().flow(V), fl.Adaptive(rtol=1e-7)
    water = fl.solve(downhill, starts, (0, 1), fl.DormandPrince(), dt=dt)
    if np.diff(water.energy, axis=0).max() > 1e-6:
        raise AssertionError("A flow line climbs.")

    flow = fl.Grid((0, width, 150), (0, height, 160)).flow(V + fl.Entropy(T))
    rain, t = fl.Uniform([0, 0], [width, height]), np.geomspace(1e-3, 1e6, 19)
    # One positive, L-stable step between two save times: the end state is what matters.
    heat = fl.solve(flow, rain, (0, t[-1]), fl.ImplicitEuler(), dt=t[-1], save_at=t)
    error, tolerance = flow.space.l1(heat.u[-1], flow.gibbs()), 1e-7

    if plot:
        figure = draw(z, ((0, width), (0, height)), water, heat)
        plotting.save(figure, "08_terrain.png", out, colors=256)
    if error > tolerance:
        raise AssertionError(f"The density is {error:.2g} away from the Gibbs state.")
    return {"error": error, "tolerance": tolerance, "what": "L1 to the Gibbs state"}


# %% Both on one map
def draw(z, box, water, heat):
    figure, big, small = plotting.mosaic(
        2, aspect=box[1][1] / box[0][1], ink="#eef3f7", paper="#0d1420",
        title="Water and heat on one landscape",
        captions=(
            r"$\dot x=-\nabla V(x)$ from 1000 points; $V$: elevation, Jacksboro, Tenn.",
            r"$\partial_t\rho=\nabla\cdot(\rho\nabla V)+T\Delta\rho$",
        ),
    )  # fmt: skip
    for ax in (big, *small.flat):
        plotting.plot_relief(z, ax, box)
    paths = list(water.u.transpose(1, 0, 2))
    for width, alpha, color in ((2.2, 0.12, "#7fd4ff"), (0.6, 1.0, "#dff5ff")):
        big.add_collection(LineCollection(paths, lw=width, alpha=alpha, colors=color))
    big.plot(*water.u[-1].T, "o", ms=1.3, mec="none", color="#ffd166")
    big.plot([1, 6], [1, 1], color="white", lw=2, solid_capstyle="butt")
    big.text(1, 1.4, "5 km", color="white", size=8.5)
    fire = plotting.fade("#ff962e", "#ffb840", "#fff7cc")
    for ax, i, when in zip(
        small.flat, (4, -1), ("$t=10^{-1}$", "$t=10^6$"), strict=True
    ):
        u = heat.u[i].T
        ax.imshow(u, fire, origin="lower", extent=np.ravel(box), vmin=0,
                  vmax=np.quantile(u, 0.997), interpolation="bicubic")  # fmt: skip
        ax.text(1, 1, when, color="white", size=8.5)
    return figure


if __name__ == "__main__":
    print(main())
