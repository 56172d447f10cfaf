"""Statements about flows with kinks and constraints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows import nonsmooth, problems
from flows.energies import Potential, quadratic
from flows.schemes import (
    DouglasRachford,
    Euler,
    ForwardBackward,
    MinimizingMovement,
)
from flows.solve import solve
from flows.spaces import Euclidean, Matrices
from flows.theory.envelope import moreau_envelope
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]
SPACE = Euclidean()
A = np.array([[2.0, 0.7, 0.0], [0.7, 1.0, -0.3], [0.0, -0.3, 1.5]])
B = np.array([1.0, 0.05, -2.0])


@statement(
    "spectral-norm-merges",
    "singular values 4, 2, 1 on |W|^2/2 merge at ln 2, 3 ln 2 and decay as e^{-t/k}",
)
def spectral_norm_merges() -> Sides:
    p = problems.spectral_norm([4.0, 2.0, 1.0])
    times = [1.0, 1.5, 2.5]
    computed = [p.constants["merges"], [np.linalg.norm(p.exact(t), 2) for t in times]]
    log2 = math.log(2.0)
    decay = [
        2.0 * math.exp(-(1.0 - log2) / 2),
        2.0 * math.exp(-(1.5 - log2) / 2),
        math.exp(-(2.5 - 3 * log2) / 3),
    ]
    return np.concatenate(computed).tolist(), [log2, 3 * log2, *decay], 1e-14


@statement(
    "spectral-norm-step",
    "proximal steps 1e-2, 1e-3 on |W|^2/2 are 3.65e-3, 3.66e-4 off at t = 1.5",
)
def spectral_norm_step() -> Sides:
    p = problems.spectral_norm([4.0, 2.0, 1.0])
    flow = Matrices(3, 3).flow(p.energy)
    errors = []
    for h in (1e-2, 1e-3):
        sol = solve(flow, p.exact(0.0), p.t, MinimizingMovement(), dt=h, save_at=[1.5])
        errors.append(float(np.linalg.norm(sol.u[-1] - p.exact(1.5), 2)))
    return errors, [3.65e-3, 3.66e-4], 1e-5


@statement(
    "proximal-extinction",
    "on |x|_1, |x|_2, |x|_inf and TV proximal steps reach 0 at the time of the flow",
)
def proximal_extinction() -> Sides:
    x = np.array([3.0, -4.0, 0.0, 0.0])
    ends = {
        nonsmooth.l1(): 4.0,
        nonsmooth.l2(): 5.0,
        nonsmooth.linf(): 7.0,
        # -4 rises at speed 2 and 0, 0 sinks at 1/2 until they meet at -4/5, t = 8/5;
        # 3 has come to 7/5 by then, and closes in at speed 1 + 1/3.
        nonsmooth.total_variation(): 1.6 + (1.4 + 0.8) / (4 / 3),
    }
    gaps = []
    for energy, end in ends.items():
        flow = SPACE.flow(energy)
        for part, alive in ((0.999, True), (1.001, False)):
            sol = solve(flow, x, (0.0, part * end), MinimizingMovement(), dt=end / 7)
            left = SPACE.flow(energy).energy(0.0, sol.u[-1])
            gaps.append(float(left > 1e-12) - float(alive))
    return gaps, [0.0] * len(gaps), 0.0


@statement(
    "total-variation-plateaus",
    "proximal steps on the total variation of a staircase are its flow, merge by merge",
)
def total_variation_plateaus() -> Sides:
    p = problems.total_variation()
    flow = SPACE.flow(p.energy)
    sol = solve(flow, p.exact(0.0), p.t, MinimizingMovement(), dt=0.05)
    exact = np.array([p.exact(t) for t in sol.t])
    return float(np.abs(sol.u - exact).max()), 0.0, 1e-13


def lasso_slack(scheme: Any, dt: float) -> float:
    """Violation of the optimality conditions -grad S in dR at the end of a run."""
    flow = SPACE.flow(quadratic(A, b=B) + nonsmooth.l1(0.3))
    sol = solve(flow, np.ones(3), (0.0, 300.0), scheme, dt=dt, save_at=[300.0])
    x = sol.u[-1]
    force = B - A @ x
    excess = np.where(x == 0.0, np.maximum(np.abs(force) - 0.3, 0.0), 0.0)
    return float(np.max(np.where(x == 0.0, excess, np.abs(force - 0.3 * np.sign(x)))))


@statement(
    "forward-backward-rest",
    "forward-backward and Douglas-Rachford rest in the minimizer for every step",
)
def forward_backward_rest() -> Sides:
    slacks = [
        lasso_slack(ForwardBackward(), 0.1),
        lasso_slack(ForwardBackward(), 0.7),
        lasso_slack(DouglasRachford(), 0.1),
        lasso_slack(DouglasRachford(), 3.0),
    ]
    return slacks, [0.0] * 4, 1e-12


@statement(
    "forward-backward-kink",
    "on a kink explicit steps chatter, forward-backward steps come to rest",
)
def forward_backward_crossing() -> Sides:
    flow = SPACE.flow(quadratic(1.0, b=0.2) + nonsmooth.l1(1.0))
    x0, t = np.array([0.63]), (0.0, 20.0)
    rest = solve(flow, x0, t, ForwardBackward(), dt=0.1).u[-1, 0]
    chatter = solve(flow, x0, t, Euler(), dt=0.1).u[-4:, 0]
    return [float(rest), float(np.ptp(chatter) > 0.05)], [0.0, 1.0], 0.0


@statement(
    "dual-decomposition",
    "x = prox_{hF} x + h prox_{F*/h}(x/h) for norms and the balls of their duals",
)
def moreau_identity() -> Sides:
    rng = np.random.default_rng(0)
    x, h, a = rng.normal(size=(20, 6)), 0.7, 0.8
    pairs = [
        (nonsmooth.l1(a), nonsmooth.box(-a, a)),
        (nonsmooth.l2(a), nonsmooth.ball(a)),
    ]
    gaps = []
    for norm, dual in pairs:
        near = norm.function.prox(x, h)
        far = dual.function.prox(x / h, 1.0 / h)
        gaps.append(float(np.abs(x - near - h * far).max()))
    return gaps, [0.0, 0.0], 1e-15


@statement(
    "envelope-steps",
    "an Euler step of size h on the envelope with step h is a proximal step, kinks too",
)
def moreau_steps() -> Sides:
    x = np.array([1.4, -0.2, 0.3])
    gaps = []
    for energy in (
        nonsmooth.l1(0.5),
        nonsmooth.total_variation(0.5),
        quadratic(A, b=B) + nonsmooth.linf(0.4),
        Potential("x**4/4 + y**2 + z**4"),
    ):
        v, _ = SPACE.flow(energy).prox(0.0, x, 0.3, ())
        envelope = SPACE.flow(moreau_envelope(energy, 0.3))
        gaps.append(float(np.abs(x + 0.3 * envelope.velocity(0.0, x) - v).max()))
    return gaps, [0.0] * 4, 1e-15
