"""Sparse recovery: the path of the lasso as a gradient flow in time.

    dx/dt = -grad |M x - y|^2/2 - lam(t) d|x|_1,    lam(t) = lam_0 exp(-t/60)

A step is explicit in the square and proximal in the norm (Combettes, Wajs,
doi:10.1137/050626090): zeros are exact. As the weight falls, the flow follows the
minimizers of the lasso (dots) and finds seven entries of a hundred from 40 numbers.
"""

# %% Forty noisy measurements of a signal with seven entries
import numpy as np

import flows as fl
from flows import plotting

rng = np.random.default_rng(4)
truth, place = np.zeros(100), rng.choice(100, 7, replace=False)
truth[place] = [2.0, -1.6, 1.3, -1.1, 0.9, 1.7, -0.7]
M = rng.normal(size=(40, 100)) / np.sqrt(40)
y = M @ truth + 0.02 * rng.normal(size=40)
square, first = fl.quadratic(M.T @ M, b=M.T @ y), float(np.abs(M.T @ y).max())


# %% At one weight the minimizer is a proximal step that is long enough
def minimizer(lam):
    flow = fl.Euclidean().flow(square + fl.nonsmooth.l1(lam))
    return flow.prox(0.0, 0.0 * truth, 1e4, ())[0]


def main(plot=True, out="figures"):
    norm = fl.separable("a*exp(-t/60)*abs(x)", parameters={"a": first})
    flow = fl.Euclidean().flow(square + norm)
    sol = fl.solve(flow, 0 * truth, (0, 240), fl.ForwardBackward(), dt=0.2, save_at=1.0)
    lam, dots = first * np.exp(-sol.t / 60), slice(20, 241, 20)
    exact = np.array([minimizer(value) for value in lam[dots]])
    error = float(np.abs(sol.u[dots] - exact).max())

    if plot:
        titles = "coefficients as the weight falls", "seven entries of a hundred"
        left, right = axes = plotting.new_axes(2, titles=titles)
        left.plot(lam, np.delete(sol.u, place, axis=1), color="0.8", lw=0.8)
        left.plot(lam, sol.u[:, place], lw=1.4)
        left.plot(lam[dots], exact[:, place], "k.", ms=3)
        left.set(xscale="log", xlabel=r"weight $\lambda$", ylabel="$x_i$")
        left.invert_xaxis()
        right.vlines(np.arange(100), 0, sol.u[-1], lw=1.2, label="found")
        right.plot(place, truth[place], "o", mfc="none", mec="k", ms=6, label="truth")
        right.set(xlabel="$i$")
        right.legend(frameon=False, fontsize=8)
        plotting.save(axes, "13_sparse_recovery.png", out)

    tolerance, found = 0.05, np.flatnonzero(np.abs(sol.u[-1]) > 0.1)
    if error > tolerance or set(found) != set(place):
        raise AssertionError(f"The flow is {error:.2g} off; it found {found}.")
    return {"error": error, "tolerance": tolerance, "what": "distance to the lasso"}


if __name__ == "__main__":
    print(main())
