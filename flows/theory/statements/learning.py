"""Statements about games, several objectives and averages."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from flows import problems
from flows.energies import Potential, quadratic
from flows.learning import ExponentialAverage, game, masked, min_norm_weights
from flows.schemes import RK4, Euler, Extragradient, Optimistic, Splitting
from flows.solve import solve, steps
from flows.spaces import Euclidean
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]


def iterates(flow: Any, x0: Any, scheme: Any, h: float, count: int) -> np.ndarray:
    """The start and ``count`` steps of size h."""
    path = steps(flow, np.asarray(x0), scheme, dt=h)
    return np.array([x0, *(u for _, u in itertools.islice(path, count))])


@statement("game-circles", "the bilinear game runs in circles of speed sigma")
def circles() -> Sides:
    p = problems.bilinear_game(1.3, (0.6, -0.4))
    sol = solve(p.flow, p.exact(0.0), (0.0, 2.0), RK4(), dt=1e-3)
    return sol.u[-1].tolist(), p.exact(2.0).tolist(), 1e-11


@statement(
    "game-steps",
    "a step a = h sigma: descent sqrt(1+a^2), extragradient sqrt(1-a^2+a^4)",
)
def game_steps() -> Sides:
    a = 1 / math.sqrt(2)
    p = problems.bilinear_game()
    factors = []
    for scheme in (Euler(), Extragradient()):
        sizes = np.linalg.norm(iterates(p.flow, [1.0, 0.0], scheme, a, 10), axis=1)
        factors.append(float((sizes[-1] / sizes[0]) ** 0.1))
    return factors, [math.sqrt(1.5), math.sqrt(0.75)], 1e-14


@statement(
    "alternating-descent",
    "alternating steps, x first, keep x^2 + y^2 - a x y for a < 2",
)
def alternating() -> Sides:
    a, p = 1.7, problems.bilinear_game()
    x, y = iterates(p.flow, [1.0, 0.3], Splitting("x y", inner=Euler()), a, 100).T
    form = x**2 + y**2 - a * x * y
    return np.ptp(form), 0.0, 1e-12


@statement(
    "optimistic-threshold", "optimistic steps neither grow nor shrink at a = 1/sqrt 3"
)
def optimistic_threshold() -> Sides:
    p = problems.bilinear_game()
    x = iterates(p.flow, [1.0, 0.3], Optimistic(), 1 / math.sqrt(3), 120)
    sizes = np.linalg.norm(x, axis=1)
    return float(sizes[-1] / sizes[-2]), 1.0, 1e-13


@statement(
    "dirac-gan",
    "Dirac GAN with R1 penalty g: eigenvalues -g/2 +- sqrt(g^2/4 - 1/4)",
)
def dirac_gan() -> Sides:
    found, theory = [], []
    for g in (0.3, 1.0, 2.0):
        f = Potential("-log(1 + exp(-x*y))")
        critic = -f + Potential("g*y**2/2 + 0*x", parameters={"g": g})
        flow = game({"x": f, "y": critic}, {"x": [0], "y": [1]})
        J = flow.jacobian(0.0, np.zeros(2))
        # Half the trace and the determinant say the eigenvalues, double ones too.
        found += [float(np.trace(J)) / 2, float(np.linalg.det(J))]
        theory += [-g / 2, 1 / 4]
    return found, theory, 1e-15


@statement("least-norm", "hull of (1,1), (-2,1.5), (0.5,3): least square 49/37")
def least_norm() -> Sides:
    g = np.array([[1.0, 1.0], [-2.0, 1.5], [0.5, 3.0]])
    a = min_norm_weights(g @ g.T)
    u = a @ g
    return [*a, u @ u, (g @ u).min()], [27 / 37, 10 / 37, 0.0, 49 / 37, 49 / 37], 1e-14


@statement("pareto-path", "|x - a_i|^2/2 together: straight to the hull of the a_i")
def pareto_path() -> Sides:
    p = problems.pareto_quadratics()
    sol = solve(p.flow, p.exact(0.0), (0.0, 2.0), RK4(), dt=1e-2)
    return sol.u[-1].tolist(), p.exact(2.0).tolist(), 1e-9


@statement("masked-moments", "masked descent: E x_k^2 = (1 - 2hl + h^2 l^2/p)^k x_0^2")
def masked_moments() -> Sides:
    h, lam, p, k, n = 0.2, 1.0, 0.5, 3, 100_000
    flow = masked(Euclidean().flow(quadratic(lam)), p)
    path = steps(flow, np.ones(n), Euler(), dt=h, rng=0)
    *_, (_, u) = itertools.islice(path, k)
    second = (1 - 2 * h * lam + h**2 * lam**2 / p) ** k
    fourth = (p * (1 - h * lam / p) ** 4 + 1 - p) ** k
    # Four standard errors of n independent coordinates.
    allowed = 4 * math.sqrt((fourth - second**2) / n)
    return float((u**2).mean()), second, allowed


@statement("averaged-descent", "moving average at resonance: beta^k (1 + (1-beta) k)")
def averaged_descent() -> Sides:
    h, k = 0.3, 20
    beta = 1 - h
    flow = Euclidean().flow(quadratic(1.0))
    sol = solve(
        flow, [1.0], (0.0, h * k), Euler(), dt=h, on_step=ExponentialAverage(beta)
    )
    found = float(sol.records["exponential_average"][-1, 0])
    return found, beta**k * (1 + (1 - beta) * k), 1e-14
