"""Rosenbrock's valley: a stiff gradient flow.

    dx/dt = -grad V(x),    V(x, y) = (1 - x)^2 + 100 (y - x^2)^2

The flow falls to the floor of the valley within a time of 1/100 and creeps along it to
the minimum (1, 1) (H. H. Rosenbrock, doi:10.1093/comjnl/3.3.175). At equal tolerance an
explicit scheme stays at its stability bound, while the steps of the L-stable TR-BDF2
(R. E. Bank et al., doi:10.1109/T-ED.1985.22232) grow as the flow calms down.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting


# %%
def main(plot=True, out="figures"):
    p = fl.problems.rosenbrock()
    flow = fl.Euclidean().flow(p.energy)
    x0, dt = p.start, fl.Adaptive(rtol=1e-5, atol=1e-8)
    explicit = fl.solve(flow, x0, p.t, fl.DormandPrince(), dt=dt)
    implicit = fl.solve(flow, x0, p.t, fl.TRBDF2(), dt=dt)
    error = float(np.linalg.norm(implicit.u[-1] - p.limit))

    if plot:
        titles = "into the valley and along it", "steps at equal tolerance"
        axes = plotting.new_axes(2, titles=titles)
        plotting.plot_path(implicit, axes[0])
        for sol, name, color in (
            (explicit, "Dormand-Prince", "blue"),
            (implicit, "TR-BDF2", "vermilion"),
        ):
            label = f"{name}, {sol.stats['steps']} steps"
            # The last two steps are cut to end at the final time.
            t, h = sol.t[1:-2], np.diff(sol.t)[:-2]
            axes[1].loglog(t, h, color=plotting.COLORS[color], label=label)
        axes[1].set(xlabel="time $t$", ylabel="step $h$")
        plotting.legend(axes[1])
        plotting.save(axes, "02_rosenbrock.png", out)

    tolerance = 1e-5
    if error > tolerance:
        raise AssertionError(f"The flow ends {error:.2g} away from the minimum.")
    return {"error": error, "tolerance": tolerance, "what": "distance to the minimum"}


if __name__ == "__main__":
    print(main())
