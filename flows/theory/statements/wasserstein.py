"""Statements about flows of measures on the line and between Gaussians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows import problems
from flows.energies import Entropy, kl, porous_medium, quadratic
from flows.measures import Dirac, Gaussian, Mixture
from flows.schemes import DOP853, SDIRK3, ImplicitEuler, MinimizingMovement
from flows.solve import solve
from flows.spaces import Euclidean, Particles, Quantiles
from flows.theory.convergence import convergence
from flows.theory.verify import statement
from flows.transport import wasserstein

Sides = tuple[Any, Any, float]


@statement("dirac", "the flow of a Dirac mass is the Euclidean flow")
def dirac() -> Sides:
    energy = quadratic([1.0, 3.0])
    start = np.array([1.0, -2.0])
    options = {"dt": 0.01}
    a = solve(Euclidean().flow(energy), start, (0, 1), DOP853(), **options)  # type: ignore[arg-type]
    b = solve(Particles(1).flow(energy), Dirac(start), (0, 1), DOP853(), **options)  # type: ignore[arg-type]
    return b.u[-1, 0].tolist(), a.u[-1].tolist(), 1e-14


@statement("flat-line", "in quantiles the JKO step is implicit Euler")
def flat_line() -> Sides:
    flow = Quantiles(60).flow(kl("x**4/4"))
    ends = [
        solve(flow, Gaussian(0.5, 0.7), (0, 0.5), scheme, dt=0.1).u[-1]
        for scheme in (MinimizingMovement(), ImplicitEuler())
    ]
    return float(np.abs(ends[0] - ends[1]).max()), 0.0, 1e-12


def jko_std(std: float, tau: float, lam: float) -> float:
    """Standard deviation after one JKO step of entropy + lam x^2/2 from a Gaussian."""
    return (std + math.sqrt(std**2 + 4 * tau * (1 + tau * lam))) / (2 * (1 + tau * lam))


@statement(
    "jko-gaussian", "one JKO step takes sigma to the root of its quadratic equation"
)
def jko_gaussian() -> Sides:
    tau, lam = 0.3, 1.3
    errors = []
    for n in (100, 200, 400, 800):
        space = Quantiles(n)
        flow = space.flow(Entropy() + quadratic(lam))
        sol = solve(flow, Gaussian(1.5, 0.4), (0, tau), MinimizingMovement(), dt=tau)
        target = Gaussian(1.5 / (1 + tau * lam), jko_std(0.4, tau, lam))
        errors.append(space.distance(sol.u[-1], space.project(target)))
    # The tails of a Gaussian limit the order in 1/n to about one half.
    rate = math.log(errors[0] / errors[-1]) / math.log(8)
    return [errors[-1], rate], [0.0, 0.5], 4e-2


@statement("jko-order", "JKO on Ornstein-Uhlenbeck has order 1 in tau")
def jko_order() -> Sides:
    p = problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    space = Quantiles(200)
    flow = space.flow(p.energy)
    start = p.exact(0.0)

    exact = solve(flow, start, (0, 1), SDIRK3(), dt=1 / 512, save_at=1.0).u[-1]

    def error(h: float) -> float:
        sol = solve(flow, start, (0, 1), MinimizingMovement(), dt=h, save_at=1.0)
        return float(space.distance(sol.u[-1], exact))

    return convergence(error, [1 / 16, 1 / 32, 1 / 64, 1 / 128]).order[-1], 1.0, 0.1


@statement("edi", "F(u') + W^2(u', u)/2 tau <= F(u) for tau from 1e-3 to 1e3")
def edi() -> Sides:
    space = Quantiles(80)
    flow = space.flow(porous_medium(2.0, "(x**2 - 1)**2/4"))
    u = space.project(Gaussian(0.3, 0.8))
    worst = -math.inf
    for tau in (1e-3, 1e-1, 1.0, 1e1, 1e3):
        v, _ = flow.prox(0.0, u, tau, ())
        worst = max(
            worst,
            flow.energy(0.0, v)
            + space.distance(u, v) ** 2 / (2 * tau)
            - flow.energy(0.0, u),
        )
    return max(worst, 0.0), 0.0, 1e-12


@statement(
    "bures", "W2^2 between N(m, s^2) is the squared distance of (m, s): 3^2 + 4^2"
)
def bures() -> Sides:
    return wasserstein(Gaussian(0.0, 5.0), Gaussian(3.0, 1.0)), 5.0, 1e-13


@statement("w1", "W1 of N(0,1), N(0,4) is sqrt(2/pi); of a shift, the shift")
def w1() -> Sides:
    values = [
        wasserstein(Gaussian(0.0, 1.0), Gaussian(0.0, 2.0), p=1),
        wasserstein(Gaussian(0.0, 1.3), Gaussian(0.7, 1.3), p=1),
    ]
    return values, [math.sqrt(2 / math.pi), 0.7], 1e-10


@statement("dissipation-equality", "KL(0) - KL(2) = int (s-1/s)^2 + m^2 dt along OU")
def dissipation_equality() -> Sides:
    p = problems.ornstein_uhlenbeck(mean=1.5, std=0.4)
    target = Gaussian(0.0, 1.0)
    energy = kl(target)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = 1.0 + nodes
    s2 = 1 + (0.4**2 - 1) * np.exp(-2 * t)
    spent = float(weights @ (s2 - 2 + 1 / s2 + 1.5**2 * np.exp(-2 * t)))
    return energy(p.exact(0.0)) - energy(p.exact(2.0)), spent, 1e-9


@statement(
    "contraction", "two Ornstein-Uhlenbeck laws of equal width contract by e^-t exactly"
)
def contraction() -> Sides:
    flow = Quantiles(100).flow(kl("x**2/2"))
    ends = [
        solve(flow, Gaussian(m, 0.6), (0, 1), SDIRK3(), dt=2e-3, save_at=1.0).u[-1]
        for m in (-1.0, 2.0)
    ]
    return flow.space.distance(*ends), 3.0 * math.exp(-1.0), 1e-9


@statement("barenblatt", "W2 between Barenblatt profiles is |t^b - s^b| sqrt(m2(1))")
def barenblatt() -> Sides:
    p = problems.barenblatt(m=2, d=1)
    second = float(np.asarray(p.exact(1.0).cov).reshape(-1)[0])
    return (
        wasserstein(p.exact(0.3), p.exact(2.0)),
        (2.0 ** (1 / 3) - 0.3 ** (1 / 3)) * math.sqrt(second),
        1e-8,
    )


@statement("barenblatt-energy", "F of Barenblatt falls like t^(-d b (m-1))")
def barenblatt_energy() -> Sides:
    m, d = 3.0, 2
    p = problems.barenblatt(m=m, d=d)
    b = 1 / (d * (m - 1) + 2)
    ratio = p.energy(p.exact(2.0)) / p.energy(p.exact(0.5))
    return ratio, 4.0 ** (-d * b * (m - 1)), 1e-8


@statement(
    "attraction-repulsion", "x^2/2 - |x| spreads a block to half-width 1 at rate e^-t"
)
def attraction_repulsion() -> Sides:
    p = problems.attraction_repulsion()
    space = Quantiles(200)
    flow = space.flow(p.energy)
    sol = solve(flow, p.exact(p.t[0]), p.t, DOP853(), dt=0.05, save_at=p.t[1])
    end = space.project(p.exact(p.t[1]))
    # n midpoints feel 1 - 1/n of the force of their own cell at the ends only.
    return space.distance(sol.u[-1], end), 0.0, 1e-9


@statement(
    "mixture", "a mixture stays a mixture under Ornstein-Uhlenbeck, weights fixed"
)
def mixture() -> Sides:
    start = Mixture([Gaussian(-1.0, 0.3), Gaussian(2.0, 0.5)], [0.3, 0.7])
    p = problems.ornstein_uhlenbeck_mixture(
        means=[-1.0, 2.0], stds=[0.3, 0.5], weights=[0.3, 0.7]
    )
    return wasserstein(p.exact(0.0), start), 0.0, 1e-7
