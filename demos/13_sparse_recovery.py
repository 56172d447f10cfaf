"""Sparse recovery: the path of the lasso as a gradient flow in time.

    dx/dt = -grad |M x - y|^2/2 - lam(t) d|x|_1,    lam = lam_0 exp(-min(t, 240)/60)

A step is explicit in the square and proximal in the norm (Combettes, Wajs,
doi:10.1137/050626090): zeros are exact. As the weight falls, the flow follows the
minimizers of the lasso and finds seven entries of a hundred from 40 numbers; at rest
from t = 240 on, the weight lets it arrive.
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
    return flow.prox(0.0, 0.0 * truth, 1e12, ())[0]


def main(plot=True, out="figures"):
    norm = fl.separable("a*exp(-Min(t, 240)/60)*abs(x)", parameters={"a": first})
    flow = fl.Euclidean().flow(square + norm)
    sol = fl.solve(flow, 0 * truth, (0, 300), fl.ForwardBackward(), dt=0.2, save_at=1.0)
    lam, dots = first * np.exp(-np.minimum(sol.t, 240) / 60), slice(20, 241, 20)
    error = float(np.abs(sol.u[-1] - minimizer(lam[-1])).max())

    if plot:
        titles = "coefficients as the weight falls", "seven entries of a hundred"
        left, right = axes = plotting.new_axes(2, titles=titles)
        blue, gray = plotting.COLORS["blue"], plotting.COLORS["gray"]
        lasso = np.array([minimizer(value)[place] for value in lam[dots]])
        for part, color, label in (
            (sol.u[:, place], blue, "true entries"),
            (np.delete(sol.u, place, axis=1), gray, "others"),
        ):
            left.plot(lam, part, color=color, lw=1.0)[0].set_label(label)
        left.plot(lam[dots], lasso, "k.", ms=4)[0].set_label("lasso")
        left.set(xscale="log", xlabel=r"weight $\lambda(t)$", ylabel="$x_i(t)$")
        left.set_xticks([3, 1, 0.3, 0.1], ["3", "1", "0.3", "0.1"])
        left.minorticks_off()
        left.invert_xaxis()
        right.vlines(np.arange(100), 0, sol.u[-1], color=blue, lw=1.2, label="found")
        right.plot(place, truth[place], "o", mfc="none", mec="k", ms=6, label="truth")
        right.set(xlabel="index $i$", ylabel="$x_i$")
        for ax in axes:
            plotting.legend(ax, below=True, columns=3)
        plotting.save(axes, "13_sparse_recovery.png", out)

    tolerance, found = 1e-8, np.flatnonzero(np.abs(sol.u[-1]) > 0.1)
    if error > tolerance or set(found) != set(place):
        raise AssertionError(f"The flow is {error:.2g} off; it found {found}.")
    return {"error": error, "tolerance": tolerance, "what": "distance to the lasso"}


if __name__ == "__main__":
    print(main())
