"""Attraction and repulsion: a swarm that spreads evenly.

    F(rho) = 1/2 iint W(x - y) d rho d rho,    W(z) = z^2/2 - |z|

Far particles attract, near ones repel, and every law ends uniform on [m - 1, m + 1]. In
one dimension the quantiles solve linear equations (G. A. Bonaschi et al.,
doi:10.1051/cocv/2014032), so n particles are exact for every n.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting


# %%
def main(plot=True, out="figures"):
    start = fl.Mixture([fl.Gaussian(-1.5, 0.3), fl.Gaussian(1.0, 0.15)], [0.4, 0.6])
    p = fl.problems.attraction_repulsion(start, t=(0.0, 5.0))
    space = fl.Quantiles(400)
    sol = fl.solve(space.flow(p.energy), start, p.t, fl.RK4(), dt=0.02)
    x = fl.Quantiles(40).project(start)[:, None]
    exact = fl.problems.attraction_repulsion(x).exact
    swarm = fl.solve(fl.Particles(40).flow(p.energy), x, p.t, fl.RK4(), dt=0.02)
    error = np.abs(swarm.u[-1] - exact(p.t[1])).max()

    if plot:
        titles = "densities, to the uniform law", "40 particles"
        axes = plotting.new_axes(2, titles=titles)
        plotting.plot_density(sol, axes[0], count=6, exact=p.limit, label="limit")
        axes[0].set_ylim(0, 1.6)
        plotting.plot_components(swarm, axes[1])
        plotting.save(axes, "07_attraction_repulsion.png", out)

    tolerance = 1e-6
    if error > tolerance:
        raise AssertionError(f"The particles are {error:.2g} away from the exact ones.")
    return {"error": error, "tolerance": tolerance, "what": "max |x - exact|"}


if __name__ == "__main__":
    print(main())
