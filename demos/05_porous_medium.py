"""A porous medium and its front.

    d_t rho = (rho^2)'',    F(rho) = int rho^2

Unlike heat, the gas occupies a bounded set whose front moves as t^(1/3), and the profile
is Barenblatt's parabola (F. Otto, doi:10.1081/PDE-100002243). On a grid the front crosses
cells that were exactly empty; the outermost quantile rides on it.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting


# %%
def main(plot=True, out="figures"):
    p = fl.problems.barenblatt(m=2.0, t=(0.1, 10.0))
    spaces = {"grid": p.grid(400), "quantiles": fl.Quantiles(400)}
    t, runs, errors = p.t, {}, {}
    times = np.geomspace(*t, 25)
    for name, space in spaces.items():
        runs[name] = fl.solve(
            space.flow(p.energy), p.exact(t[0]), t, fl.TRBDF2(),
            dt=fl.Adaptive(1e-5), save_at=times,
        )
        errors[name] = fl.wasserstein(runs[name].measure(), p.exact(t[1]))
    print(errors)


if __name__ == "__main__":
    print(main())
