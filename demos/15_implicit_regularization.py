"""Implicit regularization in a network of two weights.

    da/dt = b (y - ab),  db/dt = a (y - ab)  keep  a^2 - b^2,  so that in the end
    a^2 + b^2 = sqrt((a_0^2 - b_0^2)^2 + 4 y^2)

Gradient descent with the step h follows the flow of V + h/4 |grad V|^2 instead
(D. Barrett, B. Dherin, doi:10.48550/arXiv.2009.11162): each step multiplies a^2 - b^2
by 1 - h^2 (y - ab)^2, and long steps end in flatter minima, nearer to the origin. The
flow of V + h/4 |grad V|^2 leaves out terms in h^2: it is right for small h.
"""

# %%
import numpy as np

import flows as fl
from flows import plotting

STEPS = (0.001, 0.01, 0.025, 0.05)


# %%
def main(plot=True, out="figures"):
    p = fl.problems.two_weights((2.8, 3.5), target=0.6, t=(0.0, 10.0))
    gap, flow = p.constants["invariant"], fl.Euclidean().flow(p.energy)
    equation = fl.theory.modified_equation(fl.Euler(), p)
    paths = [fl.solve(flow, p.initial, p.t, fl.Euler(), dt=h).u for h in STEPS]
    ends = [np.sum(u[-1] ** 2) for u in paths]
    error = 0.0
    for h, u, end in zip(STEPS, paths, ends, strict=True):
        left = gap * np.prod(1 - (h * (0.6 - u[:-1, 0] * u[:-1, 1])) ** 2)
        error = max(error, abs(end - np.hypot(left, 1.2)))

    if plot:
        titles = ("descent to the minima $ab = 0.6$", "squared weights at the end")
        left, right = axes = plotting.new_axes(2, titles=titles)
        black, blue, red = (plotting.COLORS[c] for c in ("black", "blue", "vermilion"))
        a = np.linspace(0.16, 3.6, 400)
        left.plot(a, 0.6 / a, color=plotting.COLORS["gray"], lw=1, label="minima")
        times = np.r_[0, np.geomspace(1e-3, 10, 99)]
        left.plot(*np.transpose([p.exact(t) for t in times]), color=black, label="flow")
        for h, u, color in zip(STEPS[2:], paths[2:], (blue, red), strict=True):
            left.plot(*u.T, "o-", ms=2.5, lw=0.7, color=color, label=f"$h = {h:g}$")
        left.set(xlabel="$a$", ylabel="$b$", xlim=(0, 3.7), ylim=(0, 3.7))
        left.set_aspect("equal")
        flows = [fl.solve(equation.flow(h), p.initial, p.t).u[-1] for h in STEPS]
        right.axhline(p.constants["sum_of_squares"], color=black, lw=1, label="flow")
        right.plot(STEPS, ends, "o-", ms=4, color=red, label="gradient descent")
        squares, label = np.sum(np.square(flows), axis=1), r"$V + h|\nabla V|^2/4$"
        right.plot(STEPS, squares, "x--", ms=5, color=blue, label=f"flow of {label}")
        right.set(xlabel="step $h$", ylabel="$a^2 + b^2$")
        for ax in axes:
            plotting.legend(ax)
        plotting.save(axes, "15_implicit_regularization.png", out)

    if error > 1e-12:
        raise AssertionError(f"The product formula is missed by {error:.2g}.")
    return {"error": error, "tolerance": 1e-12, "what": "a^2 + b^2 - closed form"}


if __name__ == "__main__":
    print(main())
