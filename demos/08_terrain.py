"""Water and heat on a real landscape.

    dx/dt = -grad V(x)    and    d_t rho = div(rho grad V) + T Lap rho

V is the elevation around the Jacksboro fault, Tennessee (U.S. Geological Survey, a file
that ships with matplotlib). A thousand points run downhill in one call and end in a
thousand hollows. The density starts as even rain; at first it stands in every hollow,
and only after a time that is exponential in barrier/T (H. A. Kramers, Physica 7 (1940),
doi:10.1016/S0031-8914(40)90098-2) it settles into the lowest valleys, in the Gibbs state
exp(-V/T), which the scheme keeps exactly (doi:10.1109/T-ED.1969.16566).
"""

# %%
import numpy as np
from matplotlib.cbook import get_sample_data
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import gaussian_filter

import flows as fl
from flows import plotting

T = 25.0  # meters: the height a particle climbs by chance
KILOMETERS = 6371 * np.pi / 180  # of one degree of latitude


# %% Elevation in meters on cells (east, north), their size in kilometers
def load():
    with get_sample_data("jacksboro_fault_dem.npz") as data:
        z = data["elevation"][::-1].T.astype(float)
        north = float(data["dy"]) * KILOMETERS
        middle = np.radians(data["ymin"] + data["ymax"]) / 2
        return z, float(data["dx"]) * KILOMETERS * np.cos(middle), north


def potential(z, dx, dy, margin=8):
    """Smooth surface through the cells, mirrored at the border: nothing flows out."""
    z = np.pad(gaussian_filter(z, 3.0, mode="reflect"), margin, mode="symmetric")
    x, y = ((np.arange(n) - margin + 0.5) * h for n, h in zip(z.shape, (dx, dy)))
    surface = RectBivariateSpline(x, y, z)

    def slope(x):
        east, north = x[..., 0], x[..., 1]
        return np.stack([surface(east, north, dx=1, grid=False),
                         surface(east, north, dy=1, grid=False)], axis=-1)

    return fl.Potential(
        lambda x: surface(x[..., 0], x[..., 1], grid=False), gradient=slope
    )


# %% One energy, two flows
def main(plot=True, out="figures"):
    z, dx, dy = load()
    width, height = z.shape[0] * dx, z.shape[1] * dy
    V = potential(z, dx, dy)

    starts = np.random.default_rng(1).random((1000, 2)) * [width, height]
    water = fl.solve(
        fl.Euclidean().flow(V), starts, (0, 1), fl.DormandPrince(), dt=fl.Adaptive(1e-7)
    )
    if np.diff(water.energy, axis=0).max() > 1e-6:
        raise AssertionError("A flow line climbs.")

    flow = fl.Grid((0, width, 150), (0, height, 160)).flow(V + fl.Entropy(T))
    rain = fl.Uniform([0, 0], [width, height])
    times = np.geomspace(1e-3, 1e6, 19)  # one positive implicit step between two
    heat = fl.solve(flow, rain, (0, 1e6), fl.ImplicitEuler(), dt=1e9, save_at=times)
    error = flow.space.l1(heat.u[-1], flow.gibbs())

    if plot:
        plotting.save(draw(z, (0, width, 0, height), water, heat), "08_terrain.png", out, colors=256)
    if error > 1e-7:
        raise AssertionError(f"The density is {error:.2g} away from the Gibbs state.")
    return {"error": error, "tolerance": 1e-7, "what": "L1 to the Gibbs state"}


# %% Both on one map, lit from the north-west
def draw(z, extent, water, heat):
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LightSource, LinearSegmentedColormap
    from matplotlib.figure import Figure

    soil = ["#16232e", "#25424a", "#5a6a58", "#a39a78", "#e6dcc0"]
    tint = LinearSegmentedColormap.from_list("soil", soil)
    relief = LightSource(315, 38).shade(z.T, tint, blend_mode="soft", vert_exag=0.015)
    fire = ["#ff801a00", "#ff962e99", "#ffb840e0", "#fff7cc"]
    glow = LinearSegmentedColormap.from_list("fire", fire)

    figure = Figure(figsize=(7, 5.59), facecolor="#0d1420")
    grid = figure.add_gridspec(
        2, 2, width_ratios=(2.03, 1), wspace=0.02, hspace=0.025,
        left=0.012, right=0.988, bottom=0.015, top=0.883,
    )
    panels = [figure.add_subplot(grid[p]) for p in (np.s_[:, 0], (0, 1), (1, 1))]
    for ax in panels:
        ax.imshow(relief, origin="lower", extent=extent, interpolation="bilinear")
        ax.set_axis_off()
    lines = list(water.u.transpose(1, 0, 2))
    for width, alpha, color in ((2.2, 0.12, "#7fd4ff"), (0.6, 1.0, "#dff5ff")):
        panels[0].add_collection(
            LineCollection(lines, linewidths=width, alpha=alpha, colors=color)
        )
    panels[0].plot(*water.u[-1].T, "o", ms=1.3, mec="none", color="#ffd166")
    panels[0].plot([1, 6], [1, 1], color="white", lw=2, solid_capstyle="butt")
    notes = [(panels[0], 1, 1.4, "5 km")]
    for ax, i in zip(panels[1:], (np.searchsorted(heat.t, 0.1), -1), strict=True):
        u = heat.u[i].T
        top = np.quantile(u, 0.997)
        ax.imshow(u, glow, origin="lower", extent=extent, vmin=0, vmax=top, interpolation="bicubic")
        exponent = np.floor(np.log10(heat.t[i]))
        notes.append((ax, 1, 1, f"$t = 10^{{{exponent:.0f}}}$"))
    for ax, x, y, text in notes:
        ax.text(x, y, text, color="white", size=8.5)
    title, law = "Water and heat on one landscape", (
        r"$\dot x = -\nabla V(x)$ from 1000 points, and "
        r"$\partial_t\rho = \nabla\cdot(\rho\nabla V) + T\Delta\rho$ from even rain; "
        "$V$: elevation, Jacksboro, Tennessee"
    )
    figure.text(0.014, 0.954, title, color="white", size=15, weight="bold", va="center")
    figure.text(0.014, 0.908, law, color="#b8c4d0", size=8.5, va="center")
    return figure


if __name__ == "__main__":
    print(main())
