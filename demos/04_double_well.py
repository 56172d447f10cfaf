"""A double well and its metastability.

    d_t rho = (rho V')' + T rho'',    V = x^4/4 - x^2/2,    T = 0.1

A law that starts in the right well fills it at once, then leaks over the barrier: the
surplus of mass falls as exp(-gap t), gap the smallest eigenvalue of -T f'' + V' f'
(A. Bovier et al., doi:10.4171/JEMS/22). The run shows the gap that the problem knows.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting


# %%
def main(plot=True, out="figures"):
    p = fl.problems.metastable(T=0.1)
    gap, grid = p.constants["gap"], fl.Grid((-3, 3, 600))
    sol = fl.solve(
        grid.flow(p.energy),
        fl.Gaussian(1.0, 0.1),
        (0, 80),
        fl.BDF2(),
        dt=fl.Adaptive(rtol=1e-7),
        save_at=1.0,
    )
    imbalance = sol.u @ np.sign(grid.centers) * grid.volume
    rate = -np.log(imbalance[-1] / imbalance[40]) / (sol.t[-1] - sol.t[40])
    error = abs(rate / gap - 1)

    if plot:
        titles = "density, early to late", "surplus of mass on the right"
        axes = plotting.new_axes(2, titles=titles)
        plotting.plot_density(sol, axes[0], exact=p.limit, label="equilibrium")
        blue = plotting.COLORS["blue"]
        axes[1].semilogy(sol.t, imbalance, color=blue, lw=1.6, label="run")
        law = imbalance[-1] * np.exp(-gap * (sol.t - sol.t[-1]))
        axes[1].semilogy(
            sol.t,
            law,
            "--",
            color=plotting.COLORS["vermilion"],
            label=f"rate = spectral gap, {gap:.4f}",
        )
        axes[1].set(xlabel="time $t$", ylabel="mass right $-$ mass left")
        plotting.legend(axes[1])
        plotting.save(axes, "04_double_well.png", out)
        plotting.animate(sol, f"{out}/04_double_well.gif", frames=50)

    tolerance = 1e-3
    if error > tolerance:
        raise AssertionError(f"Rate {rate:.6g}, spectral gap {gap:.6g}")
    return {"error": error, "tolerance": tolerance, "what": "rate / spectral gap - 1"}


if __name__ == "__main__":
    print(main())
