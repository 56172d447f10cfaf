"""Statements about modified equations: gradient descent and what regularizes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows import problems
from flows.energies import Potential, quadratic
from flows.schemes import DOP853, Euler, ImplicitEuler
from flows.solve import solve
from flows.spaces import Euclidean
from flows.theory.convergence import convergence
from flows.theory.modified import modified_equation, modified_quadratic
from flows.theory.networks import Network, bound_ratio
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]
LINE = Euclidean()
WELL = Potential("(x**2 - 1)**2/4 + (y - x**2)**2/2")
START = np.array([0.3, 1.2])


def order_against(scheme: Any, terms: int, theory: float) -> Sides:
    """Order of a scheme against its modified equation of so many terms."""
    equation = modified_equation(scheme, WELL, terms)

    def error(h: float) -> float:
        end = solve(LINE.flow(WELL), START, (0, 1), scheme, dt=h).u[-1]
        exact = solve(equation.flow(h), START, (0, 1), DOP853(), dt=0.05).u[-1]
        return float(np.abs(end - exact).max())

    sizes = [1 / 40, 1 / 80, 1 / 160]
    return convergence(error, sizes).slope, theory, 0.1


@statement("modified-order-1", "gradient descent against the flow of f: order 1")
def order_one() -> Sides:
    return order_against(Euler(), 1, 1.0)


@statement("modified-order-2", "against the flow of f + h/4 |grad f|^2: order 2")
def order_two() -> Sides:
    return order_against(Euler(), 2, 2.0)


@statement("modified-order-3", "with h^2 (v''(v,v)/12 + v'v'v/3) too: order 3")
def order_three() -> Sides:
    return order_against(Euler(), 3, 3.0)


@statement("modified-implicit", "implicit Euler against f - h/4 |grad f|^2: order 2")
def order_implicit() -> Sides:
    return order_against(ImplicitEuler(), 2, 2.0)


@statement(
    "modified-quadratic", "descent on x.Hx/2 is the flow of the matrix -log(1 - hH)/h"
)
def exact_quadratic() -> Sides:
    H, h = np.array([[2.0, 0.7], [0.7, 1.0]]), 0.2
    energy = quadratic(H)
    steps = solve(LINE.flow(energy), START, (0, 2), Euler(), dt=h).u[-1]
    modified: Any = LINE.flow(modified_quadratic(Euler(), energy, h))
    return steps.tolist(), modified.exact(0.0, START, 2.0).tolist(), 1e-14


@statement("imbalance", "descent multiplies a^2 - b^2 by 1 - h^2 r^2 in each step")
def imbalance() -> Sides:
    p, h = problems.two_weights((2.8, 3.5), 0.6), 0.05
    w = solve(LINE.flow(p.energy), p.initial, (0, 2), Euler(), dt=h).u
    r = 0.6 - w[:, 0] * w[:, 1]
    gap = w[:, 0] ** 2 - w[:, 1] ** 2
    defect = np.abs(gap[1:] - gap[:-1] * (1 - (h * r[:-1]) ** 2)).max()
    return float(defect), 0.0, 1e-14


@statement(
    "implicit-regularization",
    "a^2 + b^2 at the end: 4.57035 of the flow, less with larger steps",
)
def implicit_regularization() -> Sides:
    p = problems.two_weights((2.8, 3.5), 0.6)
    found = [float(p.constants["sum_of_squares"])]
    for h in (1e-3, 1e-2, 2.5e-2, 5e-2):
        w = solve(LINE.flow(p.energy), p.initial, (0, 10), Euler(), dt=h).u[-1]
        found.append(float(w @ w))
    return found, [4.57035, 4.556, 4.426, 4.182, 3.605], 6e-4


@statement(
    "input-gradient", "|df/dx|^2 sum_t .. <= |df/dtheta|^2 in 150 random networks"
)
def input_gradient() -> Sides:
    rng = np.random.default_rng(3)
    worst = 0.0
    for activation in ("tanh", "relu", "linear"):
        for _ in range(50):
            net = Network.random((3, 5, 4, 2), activation, rng)
            worst = max(worst, bound_ratio(net, rng.normal(size=3)))
    return max(worst, 1.0), 1.0, 1e-12


@statement(
    "input-gradient-equality",
    "the two sides are equal for width 1, and along the top singular vectors",
)
def input_gradient_equality() -> Sides:
    rng = np.random.default_rng(4)
    ratios = [
        bound_ratio(Network.random((1, 1, 1, 1), "tanh", rng), rng.normal(size=1))
        for _ in range(20)
    ]
    zero = np.zeros(2)
    aligned = Network(
        (np.diag([3.0, 1.0]), np.diag([2.0, 0.5])),
        (zero, zero),
        np.array([1.0, 0.0]),
        "linear",
    )
    ratios.append(bound_ratio(aligned, np.array([0.4, -0.7])))
    return ratios, [1.0] * 21, 1e-12


@statement(
    "input-gradient-batch",
    "for a batch or shared weights it fails: 0 on the right, 2 and 2 w^2 on the left",
)
def input_gradient_batch() -> Sides:
    x, y = np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 2.0])
    w, b = 1.0, 0.0
    r = w * x + b - y
    batch = [float(r @ x) ** 2 + float(r.sum()) ** 2, float(np.sum((r * w) ** 2))]
    # f = w x_1 - w x_2 where x_1 = x_2.
    w, point = 1.5, np.array([0.4, 0.4])
    shared = [float(point[0] - point[1]) ** 2, float(w * w + w * w)]
    return [*batch, *shared], [0.0, 2.0, 0.0, 2 * 1.5**2], 1e-15
