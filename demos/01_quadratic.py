"""A quadratic energy and the rate at which it falls.

    dx/dt = -A x,    V(x) = x.A x / 2,    V(x(t)) <= exp(-2 mu t) V(x(0))

mu is the smallest eigenvalue of A (on such rates: Carrillo, McCann, Villani,
doi:10.4171/RMI/376). Paths leave along the steep axis and arrive along the flat one;
every energy stays under the dashed line and ends parallel to it.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting

# %% Five starts on a circle, eigenvalues 1 and 8 along tilted axes
angle = np.pi / 6
Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
A = Q @ np.diag([1.0, 8.0]) @ Q.T
turns = 2 * np.pi * (np.arange(5) + 0.35) / 5
starts = 2 * np.stack([np.cos(turns), np.sin(turns)], axis=1)


# %%
def main(plot=True, out="figures"):
    p = fl.problems.quadratic(A, starts, t=(0.0, 3.0))
    sol = fl.solve(fl.Euclidean().flow(p.energy), p.exact(0.0), p.t, fl.RK4(), dt=0.02)
    error = max(np.abs(u - p.exact(t)).max() for t, u in zip(sol.t, sol.u, strict=True))

    if plot:
        titles = "paths over the level sets of $V$", r"energies under $e^{-2\mu t}$"
        axes = plotting.new_axes(2, titles=titles)
        plotting.plot_path(sol, axes[0])
        plotting.plot_energy(sol, axes[1], floor=p.constants["minimum"], rate=p.rate)
        plotting.save(axes, "01_quadratic.png", out)

    tolerance = 1e-5
    if error > tolerance:
        raise AssertionError(f"The path is {error:.2g} away from exp(-A t) x.")
    return {"error": error, "tolerance": tolerance, "what": "max |x - exp(-At) x0|"}


if __name__ == "__main__":
    print(main())
