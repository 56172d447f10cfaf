"""One energy under six geometries: six paths, six clocks.

    x' = argmin_v <grad V(x), v> + cost of v,    V(x) = (x - c).A (x - c)/2

What a small move costs decides where the flow goes and how fast: lengths, the Hessian
(Newton's flow, a straight line), the sum or the largest of the coordinates, entropies
of x > 0 (F. Alvarez, J. Bolte, O. Brahic, doi:10.1137/S0363012902419977). All six fall
to the same minimum.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting

# %% Eigenvalues 1 and 6 along tilted axes
turn = np.array([[0.6, -0.8], [0.8, 0.6]])
A, c, x0 = turn @ np.diag([1.0, 6.0]) @ turn.T, np.ones(2), np.array([3.0, 0.3])
smooth = fl.DormandPrince(), fl.Adaptive(rtol=1e-9)
GEOMETRIES = {
    "Euclidean": fl.Euclidean(),
    "the Hessian": fl.SteepestDescent(fl.norms.metric(A)),
    r"$\ell_1$, greedy": fl.SteepestDescent(fl.norms.l1()),
    r"$\ell_\infty$, signs": fl.SteepestDescent(fl.norms.linf()),
    r"mirror, $x \log x$": fl.Mirror.positive(),
    r"mirror, $-\log x$": fl.Mirror.burg(),
}


# %%
def main(plot=True, out="figures"):
    p = fl.problems.quadratic(A, x0, center=c, t=(0.0, 4.0))
    times, sols = np.linspace(0, 4, 801), {}
    for name, space in GEOMETRIES.items():
        # Where directions jump there is nothing to adapt to.
        how = (fl.Euler(), 2.5e-3) if "ell" in name else smooth
        flow, (scheme, dt) = space.flow(p.energy), how
        sols[name] = fl.solve(flow, x0, p.t, scheme, dt=dt, save_at=times)
    exact = {"Euclidean": [p.exact(t) for t in times]}
    exact["the Hessian"] = c + np.exp(-times[:, None]) * (x0 - c)
    error = max(np.abs(sols[name].u - exact[name]).max() for name in exact)

    if plot:
        titles = "six paths, dots at $t = 1/8, 1/4, 1/2, 1$", "six clocks"
        axes = plotting.new_axes(2, height=3.1, titles=titles)
        colors = list(plotting.COLORS.values())[:6]
        plotting.plot_levels(p.energy, axes[0], ((0.3, 3.2), (-0.1, 2.8)))
        for (name, sol), color in zip(sols.items(), colors, strict=True):
            axes[0].plot(*sol.u.T, color=color, lw=1.5)
            axes[0].plot(*sol.u[[25, 50, 100, 200]].T, "o", color=color, ms=2.8)
            plotting.plot_energy(sol, axes[1], floor=0.0, color=color, label=name)
        axes[0].plot(*x0, "o", mfc="white", mec="black", ms=5)
        axes[0].plot(*c, "k+", ms=7)
        axes[0].set_aspect("equal")
        axes[1].set_ylim(1e-6, 20)
        plotting.save(axes, "10_six_geometries.png", out)

    tolerance = 1e-7
    if error > tolerance:
        raise AssertionError(f"{error:.2g} away from the exact flows")
    return {"error": error, "tolerance": tolerance, "what": "max |x - exact|, of two"}


if __name__ == "__main__":
    print(main())
