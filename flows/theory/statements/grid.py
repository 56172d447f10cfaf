"""Statements about finite volumes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows import problems
from flows.control import Adaptive
from flows.energies import Entropy, Potential, kl, quadratic
from flows.measures import Gaussian
from flows.schemes import SDIRK3, TRBDF2, Euler, ImplicitEuler
from flows.solve import solve, steps
from flows.spaces import Grid
from flows.theory.checks import check_dissipation
from flows.theory.convergence import convergence
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]


def rough_potential(x: Any) -> Any:
    """A potential with jumps of several T between neighboring cells."""
    return 3.0 * np.sin(400.0 * np.asarray(x)[..., 0]) + np.asarray(x)[..., 0] ** 2


def no_slope(x: Any) -> Any:
    """The gradient of a potential that only its differences matter of."""
    return 0.0 * x


@statement("gibbs", "exp(-V/T) is stationary on the grid, for a rough V too")
def gibbs() -> Sides:
    grid = Grid((-3, 3, 300))
    V = Potential(rough_potential, gradient=no_slope)
    flow = grid.flow(Entropy(0.7) + V)
    rho = np.exp(-rough_potential(grid.centers[:, None]) / 0.7)
    rho /= grid.mass(rho)
    scale = 0.7 / grid.volume**2 * rho.max()
    return float(np.abs(flow.velocity(0.0, rho)).max()) / scale, 0.0, 1e-13


@statement(
    "implicit-grid", "implicit steps keep Gibbs state and mass for tau from 1e-3 to 1e3"
)
def implicit_grid() -> Sides:
    grid = Grid((-4, 4, 200))
    flow = grid.flow(kl("x**4/4 - x**2"))
    rho = np.exp(-(grid.centers**4 / 4 - grid.centers**2))
    rho /= grid.mass(rho)
    start = grid.project(Gaussian(1.0, 0.2))
    drift, mass, least = 0.0, 0.0, math.inf
    for tau in np.logspace(-3, 3, 7):
        v, _ = flow.resolvent(tau, rho, float(tau), ())
        drift = max(drift, float(np.abs(v / rho - 1).max()))
        w, _ = flow.resolvent(tau, start, float(tau), ())
        mass, least = max(mass, abs(grid.mass(w) - 1)), min(least, float(w.min()))
    return [drift, mass, min(least, 0.0)], [0.0, 0.0, 0.0], 1e-12


@statement(
    "hermite-spectrum", "the OU generator on the grid has eigenvalues 0, 1, 2, 3"
)
def hermite_spectrum() -> Sides:
    grid = Grid((-8, 8, 800))
    flow = grid.flow(kl("x**2/2"))
    L = flow.generator().toarray()
    root = np.exp(-(grid.centers**2) / 4)
    symmetric = L * root[None, :] / root[:, None]
    values = np.sort(-np.linalg.eigvalsh(0.5 * (symmetric + symmetric.T)))[:4]
    return values.tolist(), [0.0, 1.0, 2.0, 3.0], 1e-3


@statement(
    "grid-order", "Scharfetter-Gummel has order 2 in space on a mixture under OU"
)
def grid_order() -> Sides:
    p = problems.ornstein_uhlenbeck_mixture(
        means=[-1.0, 2.0], stds=[0.5, 0.4], weights=[0.3, 0.7]
    )

    def error(h: float) -> float:
        grid = Grid((-7, 7, round(14 / h)))
        sol = solve(
            grid.flow(p.energy), p.exact(0.0), (0, 0.5), SDIRK3(), dt=0.005, save_at=0.5
        )
        return float(np.abs(sol.u[-1] - grid.project(p.exact(0.5))).sum() * grid.volume)

    return convergence(error, [0.2, 0.1, 0.05, 0.025]).order[-1], 2.0, 0.1


@statement("kl-decay", "KL(t) <= e^-2t KL(0) for a convex potential of modulus 1")
def kl_decay() -> Sides:
    grid = Grid((-6, 6, 300))
    energy = Entropy() + Potential("x**2/2 + x**4/10")
    flow = grid.flow(energy)
    sol = solve(flow, Gaussian(1.5, 0.3), (0, 2), TRBDF2(), dt=0.01, save_at=0.25)
    rest = solve(flow, sol.u[-1], (0, 200), ImplicitEuler(), dt=10.0, save_at=200.0)
    gap = np.asarray(sol.energy) - np.asarray(rest.energy)[-1]
    excess = gap / (np.exp(-2 * sol.t) * gap[0]) - 1
    return max(0.0, float(excess.max())), 0.0, 1e-9


@statement(
    "grid-dissipation", "energy lost = dissipation on the grid, and 1.60062585 for OU"
)
def grid_dissipation() -> Sides:
    grid = Grid((-7, 7, 700))
    flow = grid.flow(kl(Gaussian(0.0, 1.0)))
    sol = solve(flow, Gaussian(1.5, 0.4), (0, 2), SDIRK3(), dt=Adaptive(1e-7, 1e-10))
    energy = np.asarray(sol.energy)
    lost = float(energy[0] - energy[-1])
    return [check_dissipation(sol).value, lost], [0.0, 1.60062584847], 3e-4


@statement(
    "explicit-bound", "explicit heat steps: positive at 0.4 dx^2, unstable at 0.6 dx^2"
)
def explicit_bound() -> Sides:
    grid = Grid((-2, 2, 100))
    flow = grid.flow(Entropy())
    start = grid.project(Gaussian(0.0, 0.1))
    ends = []
    for factor in (0.4, 0.6):
        stream = steps(flow, start, Euler(), dt=factor * grid.volume**2)
        ends.append(least(stream))
    return [float(ends[0] >= 0), float(ends[1] < -1e-3)], [1.0, 1.0], 0.0


def least(stream: Any) -> float:
    """Smallest density after at most 200 steps; minus infinity when refused."""
    from flows.solution import SolveError

    try:
        for _ in range(200):
            _, u = next(stream)
    except SolveError:
        return -math.inf
    return float(u.min())


@statement("porous-medium", "the grid follows Barenblatt (m = 2) at order 2")
def porous_medium_grid() -> Sides:
    p = problems.barenblatt(m=2, d=1)

    def error(h: float) -> float:
        grid = Grid((-4, 4, round(8 / h)))
        sol = solve(
            grid.flow(p.energy),
            p.exact(0.1),
            (0.1, 0.6),
            TRBDF2(),
            dt=0.005,
            save_at=[0.6],
        )
        return float(np.abs(sol.u[-1] - grid.project(p.exact(0.6))).sum() * grid.volume)

    slope = convergence(error, [8 / n for n in (40, 57, 80, 113, 160, 226)]).slope
    return slope, 2.0, 0.3


@statement(
    "spectral-gap", "mass moves between the wells of x^4/4 - x^2/2 at the gap's rate"
)
def spectral_gap() -> Sides:
    T = 0.1
    gap = problems.spectral_gap("x**4/4 - x**2/2", T)
    grid = Grid((-2.6, 2.6, 520))
    flow = grid.flow(Entropy(T) + Potential("x**4/4 - x**2/2"))
    right = grid.centers > 0
    sol = solve(
        flow, Gaussian(1.0, 0.2), (0, 60), SDIRK3(), dt=0.25, save_at=[30.0, 60.0]
    )
    share = sol.u @ right * grid.volume - 0.5
    return -math.log(share[1] / share[0]) / 30.0, gap, 1e-5


@statement(
    "two-dimensions",
    "a correlated Gaussian under OU in the plane keeps its exact moments",
)
def two_dimensions() -> Sides:
    A = np.array([[1.0, 0.4], [0.4, 1.5]])
    grid = Grid((-5, 5, 100), (-5, 5, 100))
    flow = grid.flow(Entropy() + quadratic(A))
    cov = np.array([[0.5, 0.2], [0.2, 0.4]])
    sol = solve(
        flow, Gaussian([1.0, -0.5], cov), (0, 0.5), TRBDF2(), dt=0.02, save_at=[0.5]
    )
    values, Q = np.linalg.eigh(A)
    E = Q @ np.diag(np.exp(-0.5 * values)) @ Q.T
    rest = np.linalg.inv(A)
    exact = rest + E @ (cov - rest) @ E
    got = np.asarray(sol.measure(-1).cov)
    return got.ravel().tolist(), exact.ravel().tolist(), 6e-3
