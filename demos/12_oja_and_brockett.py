"""Eigenvectors and sorted eigenvalues by gradient flows of matrices.

    x' = A x - (x.A x) x on the sphere,    Q' = Q [L, N]/2 with L = Q^T A Q

Oja's flow falls to the top eigenvector (doi:10.1007/BF00275687); Brockett's double
bracket flow keeps the eigenvalues of L and sorts them on its diagonal
(doi:10.1016/0024-3795(91)90021-N). For N = 2 diag(n, .., 1) and tridiagonal A that is
the Toda flow, whose Q is the orthogonal factor of exp(t A).
"""

# %%
import numpy as np

import flows as fl
from flows import plotting

# %% A ring of starts on the sphere; the axes right and up, and forward of the viewer
angles = 2 * np.pi * (np.arange(20) + 0.5) / 20
ring = np.stack([np.cos(angles), np.sin(angles), 0.3 * np.sin(2 * angles)], axis=1)
forward, right = np.array([3.0, -4.0, -2.0]) / np.sqrt(29), np.array([0.8, 0.6, 0.0])
screen = np.stack([right, np.cross(forward, right)], axis=1)


# %%
def main(plot=True, out="figures"):
    sphere = fl.problems.rayleigh([0.0, 0.8, 2.0], ring + 0.1, t=(0, 8))
    toda = fl.problems.toda((0, 2, -1, 1.5, 0.5), (1, 0.3, 0.8, 0.5), t=(0, 8))
    sols, error = [], 0.0
    for p, space in ((sphere, fl.Sphere()), (toda, fl.Stiefel(5, 5))):
        flow, dt = space.flow(p.energy), fl.Adaptive(rtol=1e-10)
        sol = fl.solve(flow, p.exact(0), p.t, fl.DormandPrince(), dt=dt, save_at=0.02)
        gaps = [np.abs(u - p.exact(t)).max() for t, u in zip(sol.t, sol.u, strict=True)]
        sols, error = [*sols, sol], max(error, *gaps)

    if plot:
        titles = "Oja's flow on the sphere", "the diagonal of $L$ becomes sorted"
        axes = plotting.new_axes(2, height=3.4, ratios=(1, 1.35), titles=titles)
        draw_sphere(sols[0].u, axes[0])
        draw_diagonal(sols[1], toda, axes[1])
        plotting.save(axes, "12_oja_and_brockett.png", out)

    tolerance = 1e-7
    if error > tolerance:
        raise AssertionError(f"{error:.2g} away from the exact flows")
    return {"error": error, "tolerance": tolerance, "what": "max |u - exact|"}


def draw_sphere(u, ax):
    """Paths (k, b, 3) as the viewer sees them, pale and dashed behind the sphere."""
    blue, red = plotting.COLORS["blue"], plotting.COLORS["vermilion"]
    behind = (u @ forward > 0)[..., None]
    for hidden, place, line in ((True, "behind", "--"), (False, "in front", "-")):
        seen = np.where(behind == hidden, u, np.nan) @ screen
        look = {"color": blue, "alpha": 0.45 if hidden else 1.0}
        paths = ax.plot(*np.moveaxis(seen, 2, 0), line, lw=1.1, **look)
        paths[0].set_label(f"path {place}")
        ax.plot(*seen[0].T, "o", mfc="white", ms=4, **look)
        ax.plot(*seen[-1].T, "o", ms=5, **look | {"color": red})
    ax.plot([], [], "o", mfc="white", color=blue, ms=4, label="start")
    ax.plot([], [], "o", color=red, ms=5, label="end, eigenvector")
    around = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(around), np.sin(around), color="0.3", lw=0.8)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_axis_off()
    plotting.legend(ax, below=True, columns=2)


def draw_diagonal(sol, toda, ax):
    """The diagonal of L = Q^T L_0 Q over time, with the exact one."""
    L0, few = toda.constants["L"], sol.t[::25]
    lines = ax.plot(sol.t, np.sum(sol.u * (L0 @ sol.u), axis=1), lw=1.5)
    lines[0].set_label("run")
    Q = np.stack([toda.exact(t) for t in few])
    dots = ax.plot(few, np.sum(Q * (L0 @ Q), axis=1), "k.", ms=3)
    dots[0].set_label("exact")
    values = toda.constants["eigenvalues"]
    ax.hlines(values, 0, 8, colors="0.6", linestyles=":", label="eigenvalues")
    ax.set(xlabel="time $t$", ylabel="$L_{ii}(t)$")
    plotting.legend(ax, below=True, columns=3)


if __name__ == "__main__":
    print(main())
