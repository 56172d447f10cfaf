"""Natural against plain gradient, fitting a Gaussian.

    dz/dt = -F(z)^{-1} grad V(z),    V(z) = KL(target | N(m, L L^T)),    z = (m, L)

Along the natural gradient (S. Amari, doi:10.1162/089976698300017746) the moments E x
and E x x^T go straight to those of the target, all at the rate 1, whatever coordinates
z the law is written in. The plain gradient takes the curvature of its coordinates for
that of the problem: it turns the ellipse fast and stretches it slowly.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting

TARGET = fl.Gaussian([1.0, 0.5], [[4.0, 1.9], [1.9, 1.0]])
METRIC = fl.metrics.fisher_cholesky(2)
TIMES = [0.0, 0.25, 1.0, 2.0, 4.0, 8.0]


# %%
def ellipse(z):
    m, S = METRIC.unpack(z)
    turn = np.linspace(0, 2 * np.pi, 200)
    return m[:, None] + np.linalg.cholesky(S) @ [np.cos(turn), np.sin(turn)]


def main(plot=True, out="figures"):
    p = fl.problems.forward_kl(fl.Gaussian([-3.0, 2.0], 0.7), TARGET, METRIC, t=(0, 8))
    flow, plain = (fl.Euclidean(metric=M).flow(p.energy) for M in (METRIC, None))
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.Tsit5())
    other = fl.solve(plain, p.exact(0.0), p.t, fl.Tsit5())
    error = max(np.abs(u - p.exact(t)).max() for t, u in zip(sol.t, sol.u, strict=True))

    if plot:
        titles = ("natural gradient", "plain gradient", "KL that is left")
        axes = plotting.new_axes(3, width=8.4, ratios=(1, 1, 0.8), titles=titles)
        for ax, s in zip(axes, (sol, other), strict=False):
            for t, color in zip(TIMES, plotting.time_colors(len(TIMES)), strict=True):
                u = s.u[np.argmin(np.abs(s.t - t))]
                ax.plot(*ellipse(u), color=color, lw=1.3)
            red = plotting.COLORS["vermilion"]
            ax.plot(*ellipse(p.limit), "--", color=red, lw=1.2, label="target")
            ax.set(xlim=(-5.2, 3.4), ylim=(-3.2, 4.8), xlabel="$x$", ylabel="$y$")
            ax.set_aspect("equal")
        plotting.legend(axes[0], where="lower left")
        plotting.time_bar(axes[1], TIMES)
        for s, label, color in ((sol, "natural", "blue"), (other, "plain", "gray")):
            color = plotting.COLORS[color]
            plotting.plot_energy(s, axes[2], floor=0.0, label=label, color=color)
        axes[2].set_ylabel(r"KL(target $|$ law)")
        plotting.save(axes, "11_natural_gradient.png", out)

    tolerance = 1e-5
    if error > tolerance:
        raise AssertionError(f"The natural gradient is {error:.2g} off its path.")
    return {"error": error, "tolerance": tolerance, "what": "distance to the exact law"}


if __name__ == "__main__":
    print(main())
