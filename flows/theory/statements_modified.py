"""Statements about modified equations: what each scheme really integrates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows import problems
from flows.energies import Potential, quadratic
from flows.learning import game
from flows.measures import Dirac
from flows.schemes import (
    BDF2,
    DOP853,
    RK4,
    SDIRK3,
    TRBDF2,
    AverageVectorField,
    BogackiShampine,
    DormandPrince,
    Euler,
    Exponential,
    Extragradient,
    Gonzalez,
    Heun,
    ImplicitEuler,
    ItohAbe,
    MinimizingMovement,
    Optimistic,
    Radau,
    Rosenbrock,
    Splitting,
    Tsit5,
)
from flows.schemes.implicit import DIAGONAL
from flows.solve import solve
from flows.spaces import Euclidean
from flows.theory.convergence import convergence
from flows.theory.modified import Momentum, modified_equation
from flows.theory.modified_quadratic import modified_quadratic
from flows.theory.networks import Network, bound_ratio
from flows.theory.series import (
    basis,
    modified_coefficients,
    scheme_coefficients,
    symmetry,
)
from flows.theory.verify import statement

if TYPE_CHECKING:
    from flows.schemes.base import Scheme

Sides = tuple[Any, Any, float]
LINE = Euclidean()
WELL = Potential("(x**2 - 1)**2/4 + (y - x**2)**2/2")
START = np.array([0.3, 1.2])
BILINEAR = Potential("x*y")
PLAYERS = game({"a": BILINEAR, "b": -BILINEAR}, {"a": [0], "b": [1]})


def leading(scheme: Scheme, order: int) -> list[float]:
    """Factors of the elementary differentials of ``order`` vertices in its field."""
    trees = basis(order)
    b = modified_coefficients(trees, scheme_coefficients(scheme, trees))
    last = [i for i, n in enumerate(trees.sizes) if n == order]
    return [float(b[i]) / symmetry(trees.trees[i - 1]) for i in last]


def chain(scheme: Scheme, order: int) -> float:
    """Factor of v'..v'v of ``order`` vertices."""
    return leading(scheme, order)[-1]


def tall_weight(scheme: Any, order: int) -> float:
    """The coefficient of z^order in the stability function, from the tableau."""
    table = scheme.tableau
    stages = len(table.stages) + 1
    power = np.ones(stages)
    for _ in range(order - 1):
        new = np.zeros(stages)
        for i, (_, row) in enumerate(table.stages, 1):
            new[i] = sum(a * power[j] for j, a in row)
        power = new
    return float(sum(b * power[j] for j, b in table.weights))


@statement("follows-euler", "Euler follows v - h/2 v'v, the flow of f + h/4 |f'|^2")
def euler() -> Sides:
    return leading(Euler(), 2), [-1 / 2], 1e-15


@statement(
    "follows-implicit-euler", "ImplicitEuler follows v + h/2 v'v: f - h/4 |f'|^2"
)
def implicit_euler() -> Sides:
    return leading(ImplicitEuler(), 2), [1 / 2], 1e-15


@statement("follows-proximal", "MinimizingMovement follows f - h/4 |f'|^2 as well")
def proximal() -> Sides:
    return leading(MinimizingMovement(), 2), [1 / 2], 1e-15


@statement("follows-heun", "Heun follows v + h^2 (v''(v,v)/12 - v'v'v/6)")
def heun() -> Sides:
    return leading(Heun(), 3), [1 / 12, -1 / 6], 1e-15


@statement("follows-tr-bdf2", "TRBDF2 follows v + C h^2 (v''(v,v) + v'v'v)")
def tr_bdf2() -> Sides:
    g = 2 - math.sqrt(2)
    C = (3 * g * g - 4 * g + 2) / (12 * (2 - g))
    return leading(TRBDF2(), 3), [C, C], 1e-15


@statement("follows-bdf2", "BDF2 follows v + h^2/3 (v''(v,v) + v'v'v)")
def bdf2() -> Sides:
    found = modified_equation(BDF2(), WELL, 3).coefficients or {}
    last = [float(b) / symmetry(tree) for tree, b in list(found.items())[2:]]
    return last, [1 / 3, 1 / 3], 1e-14


@statement("follows-sdirk3", "SDIRK3 has no term below h^3, and there C v'v'v'v")
def sdirk3() -> Sides:
    g = DIAGONAL
    C = -(1 / 24 - g / 2 + 1.5 * g * g - g**3)
    below = leading(SDIRK3(), 2) + leading(SDIRK3(), 3)
    return [*below, chain(SDIRK3(), 4)], [0, 0, 0, C], 1e-14


@statement("follows-bogacki-shampine", "BogackiShampine follows v - h^3/24 v'v'v'v")
def bogacki_shampine() -> Sides:
    return chain(BogackiShampine(), 4), -1 / 24, 1e-15


@statement("follows-rk4", "RK4 follows v - h^4/120 v'v'v'v'v and eight terms more")
def rk4() -> Sides:
    below = [max(map(abs, leading(RK4(), n))) for n in (2, 3, 4)]
    return [*below, chain(RK4(), 5)], [0, 0, 0, -1 / 120], 1e-15


@statement("follows-dormand-prince", "DormandPrince: (1/600 - 1/720) h^5 v'..v'v")
def dormand_prince() -> Sides:
    return chain(DormandPrince(), 6), 1 / 600 - 1 / 720, 1e-14


@statement("follows-tsit5", "Tsit5: (b.A^4 c - 1/720) h^5 v'..v'v")
def tsit5() -> Sides:
    return chain(Tsit5(), 6), tall_weight(Tsit5(), 6) - 1 / 720, 1e-14


@statement("follows-dop853", "DOP853 has no term up to h^7, and then C h^8 v'..v'v")
def dop853() -> Sides:
    below = max(max(map(abs, leading(DOP853(), n))) for n in range(2, 8))
    C = tall_weight(DOP853(), 9) - 1 / math.factorial(9)
    z, gaps = 0.6, []
    for rate in (z, -z):
        # log R(-rate) = -rate (1 + C rate^8 -+ ..): the mean has even powers only.
        value = modified_quadratic(DOP853(), quadratic(rate), 1.0)(Dirac(1.0))
        gaps.append(2 * value / rate - 1)
    return [below, sum(gaps) / 2 / z**8 / C], [0, 1], 0.05


@statement("follows-radau", "Radau follows v + h^5/7200 v'..v'v and the like")
def radau() -> Sides:
    below = max(max(map(abs, leading(Radau(), n))) for n in range(2, 6))
    return [below, chain(Radau(), 6)], [0, 1 / 7200], 1e-13


@statement("follows-rosenbrock", "Rosenbrock has no term below h^4")
def rosenbrock() -> Sides:
    return [max(map(abs, leading(Rosenbrock(), n))) for n in (2, 3, 4)], [0] * 3, 1e-13


@statement("follows-exponential", "Exponential has no term below h^3, no v'..v'v")
def exponential() -> Sides:
    below = [max(map(abs, leading(Exponential(), n))) for n in (2, 3)]
    return [*below, chain(Exponential(), 4)], [0, 0, 0], 1e-14


@statement("follows-extragradient", "Extragradient follows v + h/2 v'v")
def extragradient() -> Sides:
    return leading(Extragradient(), 2), [1 / 2], 1e-15


@statement("follows-optimistic", "Optimistic follows v + h/2 v'v as well")
def optimistic() -> Sides:
    found = modified_equation(Optimistic(), WELL, 2).coefficients or {}
    return float(list(found.values())[-1]), 1 / 2, 1e-15


@statement("follows-avf", "AverageVectorField follows v + h^2/12 v'v'v")
def average_vector_field() -> Sides:
    return leading(AverageVectorField(), 3), [0, 1 / 12], 1e-15


@statement(
    "follows-gonzalez",
    "Gonzalez on x^4/4 follows the AVF's field: on the line they coincide",
)
def gonzalez() -> Sides:
    x, h = np.array([0.7]), 0.3
    found = [
        float(modified_equation(s, Potential("x**4/4"), 3).flow(h).velocity(0.0, x)[0])
        for s in (Gonzalez(), AverageVectorField())
    ]
    # v'v'v = -(3 x^2)^2 x^3.
    return found, [-(0.7**3) - h * h / 12 * 9 * 0.7**7] * 2, 1e-14


@statement(
    "follows-itoh-abe",
    "ItohAbe follows v + h/2 S v, S the skew part left of right: no gradient",
)
def itoh_abe() -> Sides:
    A = np.array([[2.0, 0.7], [0.7, 1.0]])
    m = modified_equation(ItohAbe(), quadratic(A), 2)
    skew = 0.5 * 0.1 * np.array([[0.0, 0.7], [-0.7, 0.0]])
    theory = -A @ START + skew @ (-A @ START)
    return m.flow(0.1).velocity(0.0, START).tolist(), theory.tolist(), 1e-15


@statement(
    "follows-momentum",
    "heavy ball steps follow f/(1-b) + h (1+b)/(4 (1-b)^3) |f'|^2",
)
def momentum() -> Sides:
    b, x, h = 0.6, 1.3, 0.01
    energy = modified_equation(Momentum(b), Potential("x**4/4"), 2).flow(h).energy
    theory = x**4 / 4 / (1 - b) + h * (1 + b) / (4 * (1 - b) ** 3) * x**6
    return energy(0.0, np.array([x])), theory, 1e-14


@statement(
    "follows-simultaneous", "simultaneous descent on xy is driven out by h/2 (x, y)"
)
def simultaneous() -> Sides:
    v = modified_equation(Euler(), PLAYERS, 2).flow(0.2).velocity(0.0, START)
    x, y = START
    return v.tolist(), [-y + 0.1 * x, x + 0.1 * y], 1e-15


@statement("follows-alternating", "alternating descent on xy keeps x^2 + y^2 - h xy")
def alternating() -> Sides:
    h = 0.05
    m = modified_equation(Splitting("a b", inner=Euler()), PLAYERS, 6)
    v = m.flow(h).velocity(0.0, START)
    x, y = START
    slope = np.array([2 * x - h * y, 2 * y - h * x])
    return float(slope @ v), 0.0, 1e-8


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


@statement("input-gradient-equality", "with every width 1 the two sides are equal")
def input_gradient_equality() -> Sides:
    rng = np.random.default_rng(4)
    ratios = [
        bound_ratio(Network.random((1, 1, 1, 1), "tanh", rng), rng.normal(size=1))
        for _ in range(20)
    ]
    return ratios, [1.0] * 20, 1e-12


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
