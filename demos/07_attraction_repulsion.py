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
    print(fl.wasserstein(sol.measure(), p.exact(p.t[1])))


if __name__ == "__main__":
    print(main())
