"""Nesterov's ripples: acceleration is not descent.

    x'' + (3/t) x' = -grad V(x),    V(x) = sum_i l_i x_i^2 / 2,    x_i = 2 J_1(z)/z

with z = sqrt(l_i) t: Bessel functions (W. Su, S. Boyd, E. J. Candes, arXiv:1503.01243).
V rises again and again under the dashed bound 2 |x(0)|^2/t^2, and is soon far below the
gradient flow; what falls is the Lyapunov function t^2 V + 2 |x + t x'/2|^2. Nesterov's
iterates with steps s = h^2 of the gradient are near the flow at t = k h; that is FISTA
(A. Beck, M. Teboulle, doi:10.1137/080716542).
"""

# %%
import numpy as np

import flows as fl
from flows import plotting, theory

CURVATURES = [0.02, 0.5]
X0 = [1.0, 1.0]


# %%
def main(plot=True, out="figures"):
    p = fl.problems.nesterov(CURVATURES, X0, t=(0.0, 40.0))
    flow, x0 = fl.Nesterov().flow(p.energy), p.exact(0.0)
    tight = fl.Adaptive(rtol=1e-8, atol=1e-10)
    sol = fl.solve(flow, x0, p.t, fl.DOP853(), dt=tight, save_at=0.1)
    discrete = fl.solve(flow, x0, p.t, fl.FISTA(), dt=0.5)
    plain = fl.solve(fl.Euclidean().flow(p.energy), np.array(X0), p.t, fl.TRBDF2())
    error = max(np.abs(u - p.exact(t)).max() for t, u in zip(sol.t, sol.u, strict=True))

    if plot:
        titles = "the energy ripples", "the Lyapunov function falls"
        left, right = axes = plotting.new_axes(2, height=3.2, titles=titles)
        names = ("gray", "blue", "vermilion", "sky")
        gray, color, dots, sky = (plotting.COLORS[name] for name in names)
        plotting.plot_energy(plain, left, floor=0.0, label="gradient flow", color=gray)
        plotting.plot_energy(sol, left, floor=0.0, label="Nesterov's flow")
        label = "Nesterov's iterates, $h = 0.5$"
        left.plot(discrete.t, discrete.energy, ".", ms=3, color=dots, label=label)
        values, later = theory.lyapunov(sol), sol.t > 2.0
        bound = values[0] / sol.t[later] ** 2
        label = "its bound $2|x(0)|^2/t^2$"
        left.plot(sol.t[later], bound, "k--", lw=0.9, label=label)
        left.set(ylim=(3e-8, 1.0))
        right.plot(sol.t, values, color=color, label=r"$t^2 V + 2|x + t x'/2|^2$")
        right.plot(
            sol.t, sol.t**2 * sol.energy, color=sky, label="$t^2 V$, a part of it"
        )
        right.set(xlabel="time $t$", ylabel="Lyapunov function", ylim=(0.0, None))
        for ax in axes:
            plotting.legend(ax, below=True, columns=2)
        plotting.save(axes, "14_nesterov_ripples.png", out)

    tolerance = 1e-6
    if error > tolerance:
        raise AssertionError(f"The path is {error:.2g} away from the Bessel function.")
    return {"error": error, "tolerance": tolerance, "what": "max |x - 2 x0 J1(z)/z|"}


if __name__ == "__main__":
    print(main())
