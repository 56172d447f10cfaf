"""A porous medium and its front.

    d_t rho = (rho^2)'',    F(rho) = int rho^2

Unlike heat, the gas fills a bounded set whose front moves as t^(1/3); its profile is
Barenblatt's parabola (F. Otto, doi:10.1081/PDE-100002243). The front enters cells that
were exactly empty; the outermost quantile rides just behind it.
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
            space.flow(p.energy),
            p.exact(t[0]),
            t,
            fl.TRBDF2(),
            dt=fl.Adaptive(1e-5),
            save_at=times,
        )
        errors[name] = fl.wasserstein(runs[name].measure(), p.exact(t[1]))

    if plot:
        titles = "grid, and the exact parabola", "the front moves as $t^{1/3}$"
        axes = plotting.new_axes(2, titles=titles)
        plotting.plot_density(runs["grid"], axes[0], count=6, exact=p.exact(t[1]))
        fronts = [p.exact(s).radius for s in times]
        axes[1].loglog(
            times, fronts, color=plotting.COLORS["black"], lw=1, label="exact"
        )
        axes[1].loglog(
            times,
            [front(spaces["grid"], u) for u in runs["grid"].u],
            "o",
            mfc="none",
            color=plotting.COLORS["blue"],
            label="grid",
        )
        axes[1].loglog(
            times,
            runs["quantiles"].u[:, -1],
            "x",
            label="outermost quantile",
            color=plotting.COLORS["vermilion"],
        )
        axes[1].set(xlabel="time $t$", ylabel="front $r(t)$")
        axes[1].set_yticks([1, 2, 3, 4], ["1", "2", "3", "4"])
        axes[1].minorticks_off()
        plotting.legend(axes[1])
        plotting.save(axes, "05_porous_medium.png", out)

    error, tolerance = max(errors.values()), 5e-3
    if error > tolerance:
        raise AssertionError(f"W2 errors {errors}")
    return {"error": error, "tolerance": tolerance, "what": "W2 to Barenblatt"}


def front(grid, u):
    """Where the parabola through the wet cells ends: past the last one above 1 %."""
    return grid.edges[1:][u > 0.01 * u.max()].max()


if __name__ == "__main__":
    print(main())
