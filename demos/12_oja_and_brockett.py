"""Eigenvectors and sorted eigenvalues by gradient flows of matrices.

    x' = A x - (x.A x) x on the sphere,    Q' = Q [L, N]/2 with L = Q^T A Q

Oja's flow falls to the top eigenvector (doi:10.1007/BF00275687); Brockett's double
bracket flow keeps the eigenvalues of L and sorts them on its diagonal
(doi:10.1016/0024-3795(91)90021-N). For N = 2 diag(n, .., 1) and tridiagonal A that is
the Toda flow, whose Q is the orthogonal factor of exp(t A). Dots: exact solutions.
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
        axes = plotting.new_axes(2, height=3.2, ratios=(1, 1.25), titles=titles)
        u, blue = sols[0].u, plotting.COLORS["blue"]
        behind = (u @ forward > 0)[..., None]
        far, near = np.where(behind, u, np.nan), np.where(behind, np.nan, u)
        axes[0].plot(*np.moveaxis(far @ screen, 2, 0), color=blue, lw=0.8, alpha=0.3)
        axes[0].plot(*np.moveaxis(near @ screen, 2, 0), color=blue, lw=1.2)
        axes[0].plot(*(near[0] @ screen).T, "o", mfc="white", color=blue, ms=4)
        axes[0].plot(*(near[-1] @ screen).T, "o", color="#D55E00", ms=5)
        around = np.linspace(0, 2 * np.pi, 200)
        axes[0].plot(np.cos(around), np.sin(around), color="0.3", lw=0.8)
        axes[0].set_aspect("equal")
        axes[0].set_axis_off()
        L0, every = toda.constants["L"], slice(None, None, 25)
        axes[1].plot(sols[1].t, [np.diag(Q.T @ L0 @ Q) for Q in sols[1].u], lw=1.5)
        Q = np.stack([toda.exact(t) for t in sols[1].t[every]])
        axes[1].plot(sols[1].t[every], np.sum(Q * (L0 @ Q), axis=1), "k.", ms=3)
        sorted_values = toda.constants["eigenvalues"]
        axes[1].hlines(sorted_values, 0, 8, colors="0.6", linestyles=":")
        axes[1].set(xlabel="time $t$", ylabel="$L_{ii}(t)$, eigenvalues dotted")
        plotting.save(axes, "12_oja_and_brockett.png", out)

    tolerance = 1e-7
    if error > tolerance:
        raise AssertionError(f"{error:.2g} away from the exact flows")
    return {"error": error, "tolerance": tolerance, "what": "max |u - exact|"}


if __name__ == "__main__":
    print(main())
