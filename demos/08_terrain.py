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
        return np.stack([surface.ev(*x.T, dx=1), surface.ev(*x.T, dy=1)], axis=-1)

    return fl.Potential(lambda x: surface.ev(x[..., 0], x[..., 1]), gradient=slope)


# %% Two flows of one energy
def main(plot=True, out="figures"):
    z, dx, dy = load()
    V, width, height = potential(z, dx, dy), z.shape[0] * dx, z.shape[1] * dy
    starts = np.random.default_rng(1).random((1000, 2)) * [width, height]
    downhill = fl.solve(
        fl.Euclidean().flow(V), starts, (0, 1), fl.DormandPrince(), dt=fl.Adaptive(1e-7)
    )
    climbs = np.diff(downhill.energy, axis=0).max()

    grid = fl.Grid((0, width, 150), (0, height, 160))
    rain = fl.Uniform([0, 0], [width, height])
    times = np.geomspace(1e-3, 1e7, 21)  # one L-stable step between two of them
    settling = fl.solve(
        grid.flow(V + fl.Entropy(T)), rain, (0, 1e7), fl.TRBDF2(), dt=1e9, save_at=times
    )
    print(downhill, climbs)
    print(settling)


if __name__ == "__main__":
    print(main())
