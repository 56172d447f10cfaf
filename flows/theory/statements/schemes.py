"""What each scheme really integrates, to the first term that is not the flow itself.

Coefficients come from running the scheme's own step on series over rooted trees; where
a step is no such series, a state on the solution of the modified equation is stepped
and its defect measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.energies import Potential, quadratic
from flows.learning import game
from flows.measures import Dirac
from flows.schemes import (
    BDF,
    BDF2,
    DOP853,
    FISTA,
    RK4,
    SDIRK3,
    TRBDF2,
    AverageVectorField,
    BogackiShampine,
    DormandPrince,
    DouglasRachford,
    Euler,
    Exact,
    Exponential,
    Extragradient,
    ForwardBackward,
    Gonzalez,
    Heun,
    ImplicitEuler,
    ItohAbe,
    MinimizingMovement,
    Optimistic,
    PolyakMomentum,
    Radau,
    Rosenbrock,
    Splitting,
    StepDoubling,
    Tsit5,
)
from flows.schemes.implicit import DIAGONAL
from flows.solve import solve
from flows.spaces import Euclidean, HeavyBall, Nesterov
from flows.theory.convergence import convergence
from flows.theory.modified import Momentum, modified_equation, modified_quadratic
from flows.theory.modified.series import (
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
PARTS = {"smooth": Potential("x**4/4 + x*y"), "prox": Potential("x**2 + exp(y) - x*y")}


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
    "Momentum(b) follows f/(1-b) + h (1+b)/(4 (1-b)^3) |f'|^2",
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


@statement(
    "follows-splitting", "Splitting into the players of xy keeps x^2 + y^2 - h xy"
)
def alternating() -> Sides:
    h = 0.05
    m = modified_equation(Splitting("a b", inner=Euler()), PLAYERS, 6)
    v = m.flow(h).velocity(0.0, START)
    x, y = START
    slope = np.array([2 * x - h * y, 2 * y - h * x])
    return float(slope @ v), 0.0, 1e-8


@statement(
    "follows-bdf", "BDF(k) follows v + h^k/(k + 1) d^(k+1)u/dt^(k+1), k = 1 .. 5"
)
def bdf() -> Sides:
    found = []
    for k in range(1, 6):
        b = modified_equation(BDF(k), Potential("x**4/4"), k + 1).coefficients or {}
        # All trees of k + 1 vertices have the same weight as in the derivative of v.
        found.append(float(list(b.values())[-1]))
    return found, [1 / (k + 1) for k in range(1, 6)], 1e-13


@statement(
    "follows-step-doubling",
    "StepDoubling halves h: Euler's term is h/4 v'v; extrapolated it is gone",
)
def step_doubling() -> Sides:
    plain = leading(StepDoubling(Euler()), 2)
    better = StepDoubling(Euler(), extrapolate=True)
    return (
        [*plain, *leading(better, 2), *leading(better, 3)],
        [-1 / 4, 0.0, -1 / 24, -1 / 6],
        1e-15,
    )


def parts_at(scheme: Scheme) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First term of a scheme of two parts at START; a, b, and their Jacobians."""
    field = modified_equation(scheme, PARTS, 2)
    first = (field.flow(1.0).velocity(0.0, START)) - modified_equation(
        scheme, PARTS, 1
    ).flow(1.0).velocity(0.0, START)
    flows: list[Any] = [LINE.flow(energy) for energy in PARTS.values()]
    a, b = (flow.velocity(0.0, START) for flow in flows)
    Ja, Jb = (flow.jacobian(0.0, START) for flow in flows)
    return first, a + b, np.asarray(Ja), np.asarray(Jb)


@statement(
    "follows-forward-backward",
    "ForwardBackward follows v + h/2 (b' - a') v, v = a + b, b the proximal part",
)
def forward_backward() -> Sides:
    first, v, Ja, Jb = parts_at(ForwardBackward())
    return first.tolist(), (0.5 * (Jb - Ja) @ v).tolist(), 1e-14


@statement(
    "follows-douglas-rachford",
    "DouglasRachford follows v + h/2 v'v, as ImplicitEuler on the sum",
)
def douglas_rachford() -> Sides:
    first, v, Ja, Jb = parts_at(DouglasRachford())
    return first.tolist(), (0.5 * (Ja + Jb) @ v).tolist(), 1e-14


def inertial_defect(scheme: Any, space: Any, field: str, h: float) -> float:
    """Defect of a step from the solution of x'' = field of x, y = x', z = t."""
    path = modified_equation(Euler(), ("y", field.format(h=h), "1"), 1).flow(1.0)
    t = 1.0
    # Nesterov's clock is at z = t + (r/2 - 1) h.
    start = np.array([1.0, -0.4, t + 0.5 * h - h])
    u = solve(path, start, (0, 2 * h), DOP853(), dt=0.5 * h, save_at=h).u
    before, here, after = u[:, 0]
    flow = space.flow(Potential("x**4/4"))
    state = np.array([here, (here - before) / h])
    new = scheme.step(flow, t, state, h, None, ()).u
    return abs(float(new[0]) - float(after))


@statement(
    "follows-polyak",
    "PolyakMomentum follows x'' + g x' = (1 + g h/2) v: local defect O(h^4)",
)
def polyak() -> Sides:
    field = "-1.2*y - (1 + 0.6*{h})*x**3 + 0*z"

    def defect(h: float) -> float:
        return inertial_defect(PolyakMomentum(), HeavyBall(1.2), field, h)

    return convergence(defect, [0.02, 0.01, 0.005, 0.0025]).slope, 4.0, 0.1


@statement(
    "follows-fista",
    "FISTA follows x'' + (r/t) x' = (1 + r h/2t) v + h v' x': local defect O(h^4)",
)
def fista() -> Sides:
    field = "-3*y/z - (1 + 1.5*{h}/z)*x**3 - 3*{h}*x**2*y"

    def defect(h: float) -> float:
        return inertial_defect(FISTA(), Nesterov(3.0), field, h)

    return convergence(defect, [0.02, 0.01, 0.005, 0.0025]).slope, 4.0, 0.1


@statement("follows-exact", "Exact follows v itself: no error on a quadratic, any h")
def exact() -> Sides:
    A = np.array([[2.0, 0.7], [0.7, 1.0]])
    u = solve(LINE.flow(quadratic(A)), START, (0, 6), Exact(), dt=3.0).u[-1]
    values, Q = np.linalg.eigh(A)
    return u.tolist(), (Q @ (np.exp(-6 * values) * (Q.T @ START))).tolist(), 1e-15
