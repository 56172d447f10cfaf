"""Statements about second-order flows and natural gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows import problems
from flows.control import Adaptive
from flows.energies import Potential, kl, quadratic
from flows.measures import Gaussian
from flows.schemes import (
    DOP853,
    FISTA,
    RK4,
    TRBDF2,
    Euler,
    Exact,
    PolyakMomentum,
)
from flows.solve import solve
from flows.spaces import Euclidean, HeavyBall, Nesterov, Quantiles
from flows.spaces.fisher_gaussian import (
    FisherCholesky,
    FisherCovariance,
    FisherMoments,
    FisherNatural,
)
from flows.theory.convergence import convergence
from flows.theory.inertial import lyapunov, nesterov_iterate, polyak_iterate
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]
TIGHT = Adaptive(rtol=1e-10, atol=1e-12)
RIPPLED = Potential("(x - y)**4/4 + x**2/50 + log(cosh(y))")
START = Gaussian([2.0, -1.0], [[0.3, -0.1], [-0.1, 0.6]])
GOAL = Gaussian([0.0, 1.0], [[1.0, 0.3], [0.3, 0.5]])


def last(space: Any, energy: Any, u0: Any, T: float, scheme: Any, dt: Any) -> Any:
    """The state at time T."""
    return solve(space.flow(energy), u0, (0.0, T), scheme, dt=dt, save_at=[T]).u[-1]


@statement(
    "nesterov-bessel", "x'' + (3/t) x' + l x = 0 from rest is 2 J_1(z)/z, z = sqrt(l) t"
)
def nesterov_bessel() -> Sides:
    from scipy.special import j1

    z = 2.0 * 20.0
    x = last(Nesterov(), quadratic(4.0), Nesterov().start([1.0]), 20.0, DOP853(), TIGHT)
    return float(x[0]), 2.0 * float(j1(z)) / z, 1e-8


@statement(
    "nesterov-any-r", "for any r it is Gamma(n + 1)(2/z)^n J_n(z) with n = (r - 1)/2"
)
def nesterov_any_r() -> Sides:
    from scipy.special import gamma, jv

    found, exact, z = [], [], 7.0
    for r in (0.5, 2.0, 6.5):
        space, n = Nesterov(r), 0.5 * (r - 1.0)
        x = last(space, quadratic(1.0), space.start([1.0]), z, DOP853(), TIGHT)
        found.append(float(x[0]))
        exact.append(float(gamma(n + 1.0) * (2.0 / z) ** n * jv(n, z)))
    return found, exact, 1e-8


@statement(
    "nesterov-order", "equal steps from the singular start t = 0 leave RK4 its order 4"
)
def nesterov_order() -> Sides:
    p = problems.nesterov(4.0, 1.0)
    u0 = p.exact(0.0)

    def error(h: float) -> float:
        u = last(Nesterov(), p.energy, u0, 2.0, RK4(), h)
        return float(np.abs(u - p.exact(2.0)).max())

    return convergence(error, [1 / 8, 1 / 16, 1 / 32, 1 / 64]).slope, 4.0, 0.2


def ripples(space: Any) -> Any:
    """A run along which the energy is not monotone."""
    flow = space.flow(RIPPLED)
    return solve(flow, space.start([3.0, 1.0]), (0.0, 30.0), DOP853(), dt=TIGHT)


@statement(
    "nesterov-lyapunov",
    "t^2 (f - f*) + 2|x + t x'/2 - x*|^2 does not rise, though f does",
)
def nesterov_lyapunov() -> Sides:
    sol = ripples(Nesterov())
    values = lyapunov(sol)
    rise = max(float(np.diff(values).max()) / float(values[0]), 0.0)
    rippled = bool((np.diff(sol.energy) > 0.0).any())
    return [rise, float(rippled)], [0.0, 1.0], 1e-8


@statement("nesterov-rate", "f - f* <= (r - 1)^2 R^2/(2 t^2) for convex f and r >= 3")
def nesterov_rate() -> Sides:
    excess = []
    for r in (3.0, 5.0):
        sol = ripples(Nesterov(r))
        bound = 0.5 * (r - 1.0) ** 2 * 10.0 / sol.t[1:] ** 2
        excess.append(max(float((sol.energy[1:] - bound).max()), 0.0))
    return excess, [0.0, 0.0], 1e-12


@statement(
    "heavy-ball-regimes", "x'' + 2 x' + l x = 0 at t = 1.5: creeping, critical, ringing"
)
def heavy_ball_regimes() -> Sides:
    space = HeavyBall(2.0)
    found = [
        float(last(space, quadratic(a), space.start([1.0]), 1.5, TRBDF2(), 1e-3)[0])
        for a in (0.75, 1.0, 5.0)
    ]
    t = 1.5
    exact = [
        1.5 * math.exp(-0.5 * t) - 0.5 * math.exp(-1.5 * t),
        (1.0 + t) * math.exp(-t),
        math.exp(-t) * (math.cos(2.0 * t) + 0.5 * math.sin(2.0 * t)),
    ]
    return found, exact, 1e-6


@statement(
    "heavy-ball-exact", "the heavy ball's flow map on a quadratic has no time error"
)
def heavy_ball_exact() -> Sides:
    A = np.array([[2.0, 0.7], [0.7, 1.0]])
    p = problems.heavy_ball(A, [1.0, -1.0], [0.0, 2.0], 0.8, t=(0.0, 9.0))
    u = last(HeavyBall(0.8), p.energy, p.exact(0.0), 9.0, Exact(), 0.9)
    return u.tolist(), p.exact(9.0).tolist(), 1e-13


@statement(
    "heavy-ball-rate",
    "f - f* + |x' + sqrt(mu)(x - x*)|^2/2 falls like e^{-sqrt(mu) t}",
)
def heavy_ball_rate() -> Sides:
    mu = 0.5
    space = HeavyBall(2.0 * math.sqrt(mu))
    flow = space.flow(Potential("x**4/4 + (x - y)**2 + x**2/4 + y**2/4"))
    sol = solve(flow, space.start([2.0, -1.0]), (0.0, 20.0), DOP853(), dt=TIGHT)
    values = lyapunov(sol, minimizer=[0.0, 0.0]) * np.exp(math.sqrt(mu) * sol.t)
    return max(float(np.diff(values).max()) / float(values[0]), 0.0), 0.0, 1e-8


@statement("momentum-companion", "momentum iterates are powers of the companion matrix")
def momentum_companion() -> Sides:
    A, x0, rate, beta = np.array([2.0, 0.3]), np.array([1.0, -2.0]), 0.09, 0.8
    h = math.sqrt(rate)
    space = HeavyBall(2.0 * (1.0 - beta) / ((1.0 + beta) * h))
    u = last(space, quadratic(A), space.start(x0), 25 * h, PolyakMomentum(), h)
    return u[:2].tolist(), polyak_iterate(A, x0, rate, beta, 25).tolist(), 1e-14


@statement(
    "nesterov-companion", "Nesterov's iterates are products of companion matrices"
)
def nesterov_companion() -> Sides:
    A, x0, h = np.array([2.0, 0.3]), np.array([1.0, -2.0]), 0.5
    u = last(Nesterov(), quadratic(A), Nesterov().start(x0), 25 * h, FISTA(), h)
    return u[:2].tolist(), nesterov_iterate(A, x0, h * h, 3.0, 25).tolist(), 1e-14


@statement(
    "nesterov-limit", "Nesterov's iterates are order 1 in sqrt(step) from the equation"
)
def nesterov_limit() -> Sides:
    p = problems.nesterov(1.0, 1.0)
    u0 = p.exact(0.0)

    def error(h: float) -> float:
        u = last(Nesterov(), p.energy, u0, 3.0, FISTA(), h)
        return float(np.abs(u - p.exact(3.0)).max())

    return convergence(error, [0.03, 0.015, 0.0075, 0.00375]).slope, 1.0, 0.1


def natural(problem: Any, chart: Any, T: float) -> Any:
    """Mean and covariance at time T of a natural gradient flow."""
    p = problem(START, GOAL, chart)
    u = last(Euclidean(metric=chart), p.energy, p.exact(0.0), T, DOP853(), TIGHT)
    m, S = chart.unpack(u)
    return np.concatenate([m, S.ravel()])


def mixtures(problem: Any, straight: Any, charts: tuple[Any, ...]) -> Sides:
    """The flow in ``charts`` against the segment that it is in ``straight``."""
    T = 0.8
    a = math.exp(-T)
    blend = a * straight.start(START) + (1.0 - a) * straight.start(GOAL)
    m, S = straight.unpack(blend)
    exact = np.concatenate([m, S.ravel()])
    found = [natural(problem, chart, T) for chart in charts]
    return np.ravel(found).tolist(), np.tile(exact, len(charts)).tolist(), 1e-8


@statement(
    "maximum-likelihood",
    "natural gradient of KL(p|q): E x and E x x^T relax as e^{-t}, in all coordinates",
)
def maximum_likelihood() -> Sides:
    charts = (FisherCholesky(2), FisherCovariance(2))
    return mixtures(problems.forward_kl, FisherMoments(2), charts)


@statement(
    "variational-inference",
    "natural gradient of KL(q|p): P and P m relax as e^{-t}, in all coordinates",
)
def variational_inference() -> Sides:
    charts = (FisherCholesky(2), FisherMoments(2))
    return mixtures(problems.reverse_kl, FisherNatural(2), charts)


@statement(
    "natural-steps",
    "natural gradient steps h in natural coordinates have (1 - h)^k for e^{-t}",
)
def natural_steps() -> Sides:
    chart = FisherNatural(2)
    p = problems.reverse_kl(START, GOAL, chart)
    u = last(Euclidean(metric=chart), p.energy, p.exact(0.0), 2.0, Euler(), 0.4)
    a = 0.6**5
    exact = a * chart.start(START) + (1.0 - a) * chart.start(GOAL)
    return u.tolist(), exact.tolist(), 1e-12


@statement(
    "three-metrics",
    "KL(N(m,s^2)|N(0,1)), m0 = 1.5, s0 = 0.4, t = 1.2: Fisher-Rao, Wasserstein, flat",
)
def three_metrics() -> Sides:
    p, T = problems.reverse_kl(), 1.2
    u0, metric = p.exact(0.0), p.constants["metric"]
    rao = last(Euclidean(metric=metric), p.energy, u0, T, DOP853(), TIGHT)
    flat = last(Euclidean(), p.energy, u0, T, DOP853(), TIGHT)
    space = Quantiles(400)
    X = solve(space.flow(kl("x**2/2")), Gaussian(1.5, 0.4), (0.0, T), TRBDF2(), dt=0.02)
    law = space.project(Gaussian(0.0, 1.0))
    # Midpoint quantiles of a Gaussian: their spread over that of N(0, 1) is sigma.
    wasserstein = [float(X.u[-1].mean()), float(X.u[-1].std() / law.std())]
    sigma = 1.0 / math.sqrt(1.0 + (0.4**-2 - 1.0) * math.exp(-T))
    exact = [1.5 * 0.4**-2 * math.exp(-T) * sigma**2, sigma]
    bures = [1.5 * math.exp(-T), math.sqrt(1.0 + (0.16 - 1.0) * math.exp(-2.0 * T))]
    found = [*rao.tolist(), *wasserstein, *flat.tolist()]
    return found, [*exact, *bures, *bures], 2e-3
