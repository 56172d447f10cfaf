"""A potential learned from paths, by differentiating through the flow.

    dx/dt = -grad V(x),    V(x, y) = a (x^2 - 1)^2/4 + b y^2/2 + c x y

The squared distance of guessed paths to 12 observed ones is a function of (a, b, c);
autograd takes its gradient through the flow (R. T. Q. Chen et al.,
doi:10.48550/arXiv.1806.07366), and a quasi-Newton method finds the true numbers.
"""

# %%
import torch

import flows as fl
from flows import plotting

FORMULA = "a*(x**2 - 1)**2/4 + b*y**2/2 + c*x*y"
TRUE = torch.tensor([1.5, 2.0, 0.6], dtype=torch.float64)


# %%
def paths(numbers, start, adjoint=None):
    energy = fl.Potential(FORMULA, parameters=dict(zip("abc", numbers, strict=True)))
    flow = fl.Euclidean().flow(energy)
    return fl.solve(flow, start, (0, 2), fl.RK4(), dt=0.1, adjoint=adjoint).u


def main(plot=True, out="figures"):
    angles = torch.arange(12, dtype=torch.float64) * (torch.pi / 6) + 0.1
    start = 2.0 * torch.stack([torch.cos(angles), torch.sin(angles)], -1)
    observed = paths(TRUE, start)
    guess = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    first, errors = paths(guess, start), []
    search = torch.optim.LBFGS([guess], max_iter=30, line_search_fn="strong_wolfe")

    def loss():
        value = ((paths(guess, start, fl.Backprop()) - observed) ** 2).sum()
        (guess.grad,) = torch.autograd.grad(value, guess)
        errors.append(float((guess.detach() - TRUE).abs().max()))
        return value

    search.step(loss)

    if plot:
        left, right = axes = plotting.new_axes(2, titles=("twelve paths", "the search"))
        blue, red = plotting.COLORS["blue"], plotting.COLORS["vermilion"]
        learned = paths(guess.detach(), start)
        for found, label, look in (
            (first, "guessed", {"color": blue, "lw": 0.8}),
            (learned, "learned", {"color": red, "lw": 1.4}),
            (
                observed,
                "observed",
                {"color": "black", "ls": "", "marker": ".", "ms": 3},
            ),
        ):
            left.plot(*found.unbind(-1), **look)[0].set_label(label)
        left.set(xlabel="$x$", ylabel="$y$")
        left.set_aspect("equal", adjustable="datalim")
        plotting.legend(left, below=True, columns=3)
        right.semilogy(errors, ".-")
        right.set(xlabel="number of runs", xticks=range(0, len(errors), 3))
        right.set_ylabel("largest error of $a$, $b$, $c$")
        plotting.save(axes, "17_learned_potential.png", out)

    tolerance = 1e-4
    if errors[-1] > tolerance:
        raise AssertionError(f"A number of the potential is {errors[-1]:.2g} off.")
    return {"error": errors[-1], "tolerance": tolerance, "what": "error of a, b, c"}


if __name__ == "__main__":
    print(main())
