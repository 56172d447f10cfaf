"""Statements about flows of vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows import problems
from flows.control import Adaptive
from flows.energies import Potential, quadratic
from flows.schemes import (
    DOP853,
    RK4,
    SDIRK3,
    TRBDF2,
    AverageVectorField,
    DormandPrince,
    Euler,
    Gonzalez,
    ImplicitEuler,
    ItohAbe,
    MinimizingMovement,
)
from flows.solve import solve
from flows.spaces import Euclidean
from flows.theory.checks import check_dissipation
from flows.theory.convergence import convergence
from flows.theory.evi import check_de_giorgi, evi_gap
from flows.theory.rates import rates
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]
LINE = Euclidean()


def run(energy: Any, x0: Any, T: float, scheme: Any, dt: Any) -> Any:
    """Solution from x0 to T."""
    return solve(
        LINE.flow(energy), np.atleast_1d(np.asarray(x0, float)), (0, T), scheme, dt=dt
    )


@statement("energy-identity", "d/dt V = -|grad V|^2 along x' = -grad V")
def energy_identity() -> Sides:
    energy = Potential("(x**2 - 1)**2/4 + x*y/3 + y**4")
    tight = Adaptive(rtol=1e-11, atol=1e-13, largest=1e-3)
    sol = run(energy, [0.3, 1.2], 1.0, DOP853(), tight)
    return check_dissipation(sol).value, 0.0, 1e-7


@statement(
    "prox-and-gradient-step", "on 3x^2/2 with step 0.2: prox 1/(1+0.6), Euler 1-0.6"
)
def quadratic_steps() -> Sides:
    energy = quadratic(3.0)
    steps = [
        run(energy, 1.0, 0.2, s, 0.2).u[-1, 0] for s in (MinimizingMovement(), Euler())
    ]
    return steps, [1 / 1.6, 0.4], 1e-15


@statement("moreau", "the prox step is an Euler step on the Moreau envelope")
def moreau() -> Sides:
    energy, h, x = Potential("x**4/4"), 0.3, 1.4
    flow = LINE.flow(energy)

    def envelope(at: float) -> float:
        v, _ = flow.prox(0.0, np.array([at]), h, ())
        return float(flow.energy(0.0, v)) + (float(v[0]) - at) ** 2 / (2 * h)

    e = 1e-4
    slope = (
        8 * (envelope(x + e) - envelope(x - e))
        - envelope(x + 2 * e)
        + envelope(x - 2 * e)
    ) / (12 * e)
    v, _ = flow.prox(0.0, np.array([x]), h, ())
    return x - h * slope, float(v[0]), 1e-10


@statement(
    "runge-kutta-factor", "RK4 iterates on A are R(-hA)^k x0, R the Taylor polynomial"
)
def runge_kutta_factor() -> Sides:
    A = np.array([[2.0, 0.7], [0.7, 1.0]])
    sol = run(quadratic(A), [1.0, -1.0], 2.0, RK4(), 0.25)
    Z, R, power = -0.25 * A, np.eye(2), np.eye(2)
    for k in range(1, 5):
        power = power @ Z / k
        R = R + power
    return (
        sol.u[-1].tolist(),
        (np.linalg.matrix_power(R, 8) @ [1.0, -1.0]).tolist(),
        1e-14,
    )


@statement(
    "stiff-decay", "implicit schemes damp a mode with h lambda = 1e5 in one step"
)
def stiff_decay() -> Sides:
    damped = [
        abs(run(quadratic(1e6), 1.0, 0.1, s, 0.1).u[-1, 0])
        for s in (ImplicitEuler(), TRBDF2(), SDIRK3())
    ]
    return damped, [0.0] * 3, 1e-4


@statement("double-well", "x(t) = x0/sqrt(x0^2 + (1-x0^2) e^{-2t})")
def double_well() -> Sides:
    p = problems.double_well(x0=0.1)
    sol = run(p.energy, 0.1, 6.0, DOP853(), Adaptive(rtol=1e-12, atol=1e-14))
    return float(sol.u[-1, 0]), float(np.ravel(p.exact(6.0))[0]), 1e-10


@statement("extinction", "the flow of |x|^1.5/1.5 from 1 is extinct at t = 2")
def extinction() -> Sides:
    p = problems.power(p=1.5, x0=1.0)
    sol = run(p.energy, 1.0, 2.5, MinimizingMovement(), 1e-3)
    reached = sol.t[np.argmax(np.abs(sol.u[:, 0]) < 1e-6)]
    return float(reached), 2.0, 5e-2


@statement("soft-threshold", "k proximal steps on |x| are the exact flow at time kh")
def soft_threshold() -> Sides:
    sol = run(Potential("abs(x)"), 1.0, 1.5, MinimizingMovement(), 0.25)
    return sol.u[:, 0].tolist(), np.maximum(1 - sol.t, 0.0).tolist(), 1e-14


@statement("lasso", "|x| + (x - 1/2)^2/2 comes to rest at 0 in finite time")
def lasso() -> Sides:
    p = problems.lasso(b=0.5, lam=1.0, x0=2.0)
    sol = run(p.energy, 2.0, 3.0, MinimizingMovement(), 1e-3)
    return float(sol.u[-1, 0]), 0.0, 1e-14


@statement(
    "convex-rate", "f(x_k) - f* = R^2/(4kh) is attained by proximal steps on c|x|"
)
def convex_rate() -> Sides:
    R, k, h = 1.3, 8, 0.25
    c = R / (2 * k * h)
    sol = run(
        Potential("c*abs(x)", parameters={"c": c}), R, k * h, MinimizingMovement(), h
    )
    return float(sol.energy[-1]), R**2 / (4 * k * h), 1e-14


@statement("logistic", "x + e^x = x0 + e^x0 + t along V = log(1 + e^-x), to t = 1000")
def logistic() -> Sides:
    p = problems.logistic(x0=-1.0)
    sol = run(p.energy, -1.0, 1000.0, DormandPrince(), Adaptive(rtol=1e-10, atol=1e-12))
    x = float(sol.u[-1, 0])
    return x + math.exp(x), -1.0 + math.exp(-1.0) + 1000.0, 1e-4


@statement("time-dependent", "implicit Euler on (x - sin t)^2/2 has order 1")
def time_dependent() -> Sides:
    def error(h: float) -> float:
        sol = run(Potential("(x - sin(t))**2/2"), 0.0, 2.0, ImplicitEuler(), h)
        exact = 0.5 * (math.sin(2) - math.cos(2) + math.exp(-2))
        return abs(float(sol.u[-1, 0]) - exact)

    return convergence(error, [0.1, 0.05, 0.025, 0.0125]).slope, 1.0, 0.1


@statement(
    "energy-balance",
    "discrete gradients: f(y) - f(x) + |y - x|^2/h = 0 for every h, h = 100 and stiff",
)
def energy_balance() -> Sides:
    flow = LINE.flow(Potential("500*(x**2 - y)**2 + (x - 1)**4/4 + y**2"))
    gaps = []
    for scheme in (AverageVectorField(), Gonzalez(), ItohAbe()):
        for h in (1e-3, 1.0, 100.0):
            x = np.array([-0.6, 0.9])
            y = scheme.step(flow, 0.0, x, h, None, ()).u
            lost = float(flow.energy(0.0, x)) - float(flow.energy(0.0, y))
            gaps.append(lost - float(np.sum((y - x) ** 2)) / h)
    return gaps, [0.0] * len(gaps), 1e-10


@statement(
    "pl-rate", "x^2 + 3 sin^2 x, not convex: f <= e^{-2 mu t} f_0, mu = 0.17553099"
)
def pl_rate() -> Sides:
    p = problems.sine_valley(3.0)
    x = np.linspace(0.5, 4.0, 200_001)[:, None]
    flow: Any = LINE.flow(p.energy)
    slope, value = flow.velocity(0.0, x)[:, 0], flow.energy(0.0, x)
    sol = run(p.energy, 3.0, 5.0, DOP853(), Adaptive(rtol=1e-10, atol=1e-13))
    kept = float(bool(rates(sol, problem=p)))
    return [float((slope**2 / (2 * value)).min()), kept], [0.1755309859, 1.0], 1e-9


@statement(
    "evi",
    "1/2 d/dt d(x,z)^2 + l/2 d(x,z)^2 <= f(z) - f(x) for l-convex f, = for l|x|^2/2",
)
def evolution_inequality() -> Sides:
    tight = Adaptive(rtol=1e-10, atol=1e-12)
    sol = run(quadratic(0.7), [1.0, -2.0], 3.0, DOP853(), tight)
    equal = float(np.abs(evi_gap(sol, np.array([0.3, 0.4]), 0.7)).max())
    well = run(Potential("(x**2 - 1)**2/4"), 0.1, 5.0, DOP853(), tight)
    above = [float(evi_gap(well, np.array([z]), -1.0).max()) for z in (-1.0, 0.2, 1.0)]
    return [equal, *np.maximum(above, 0.0)], [0.0] * 4, 1e-12


@statement(
    "de-giorgi",
    "f(x) - f(x') = d^2/2h + int_0^h d(x, x_r)^2/2r^2 dr for proximal steps of any h",
)
def de_giorgi() -> Sides:
    gaps = []
    for h in (0.05, 0.9):
        energy = Potential("(x**2 - 1)**2/4 + x*y/3 + y**4")
        sol = run(energy, [0.3, 1.2], 4 * h, MinimizingMovement(), h)
        gaps.append(check_de_giorgi(sol).value)
    return gaps, [0.0] * 2, 1e-10
