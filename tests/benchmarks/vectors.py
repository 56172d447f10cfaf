"""Vectors: one at a time, many at once, stiff, and large; pairs (ours, the peer's)."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import diags

import flows as fl

from .timing import best


def slope_of(flow):
    return lambda t, u: flow.velocity(t, u)


def runge_kutta() -> tuple[float, float]:
    """Seconds per step on a 2-vector: RK4 against solve_ivp(RK45)."""
    flow = fl.Euclidean().flow(fl.Potential("x**2/2 + 2*y**2"))
    start = np.array([1.0, 1.0])
    ours = best(lambda: fl.solve(flow, start, (0, 10), fl.RK4(), dt=0.01)) / 1000

    def peer():
        return solve_ivp(slope_of(flow), (0, 10), start, rtol=1e-9, atol=1e-12)

    return ours, best(peer) / (len(peer().t) - 1)


def ensemble() -> tuple[float, float]:
    """Seconds per point, 20000 starts of a Rosenbrock valley, both at rtol 1e-7.

    The peer integrates 50 of the starts, with a slope written out in Python.
    """
    energy = fl.Potential("(1 - x)**2 + 20*(y - x**2)**2")
    flow, count = fl.Euclidean().flow(energy), 20_000
    starts = 0.5 * np.random.default_rng(0).normal(size=(count, 2))
    control = fl.Adaptive(rtol=1e-7, atol=1e-9)

    def slope(t, u):
        x, y = u
        return [2 * (1 - x) + 80 * x * (y - x * x), -40 * (y - x * x)]

    def ours():
        return fl.solve(flow, starts, (0, 2), fl.Tsit5(), dt=control, save_at=[2.0])

    def peer():
        return [
            solve_ivp(slope, (0, 2), start, rtol=1e-7, atol=1e-9).y[:, -1]
            for start in starts[:50]
        ]

    assert np.abs(ours().u[-1][:50] - np.array(peer())).max() < 1e-5
    return best(ours) / count, best(peer, 3) / 50


def stiff() -> tuple[float, float]:
    """The Rosenbrock valley to t = 1/2 within 1e-4: BDF against solve_ivp(BDF).

    Both have the exact Jacobian from the formula and the same tolerances; the peer
    calls our compiled slope and Jacobian.
    """
    flow = fl.Euclidean().flow(fl.Potential("(1 - x)**2 + 100*(y - x**2)**2"))
    start = np.array([-1.2, 1.0])
    tight = fl.Adaptive(rtol=1e-11, atol=1e-13)
    exact = fl.solve(flow, start, (0, 0.5), fl.Radau(), dt=tight, save_at=[0.5]).u[-1]
    control = fl.Adaptive(rtol=1e-6, atol=1e-9)

    def ours():
        run = fl.solve(flow, start, (0, 0.5), fl.BDF(), dt=control, save_at=[0.5])
        return run.u[-1]

    def peer():
        return solve_ivp(
            slope_of(flow),
            (0, 0.5),
            start,
            "BDF",
            jac=flow.jacobian,
            rtol=1e-6,
            atol=1e-9,
        ).y[:, -1]

    for name, run in (("flows", ours), ("BDF", peer)):
        error = float(np.abs(run() - exact).max())
        assert error < 1e-4, f"{name} has error {error:.2e}"
    return best(ours), best(peer)


CHAIN = 196_608


def chain_slope(x):
    """Gradient of the chain's V = sum 50 (x_{i+1} - x_i)^2 + x_i^4/4."""
    d = 100.0 * np.diff(x, axis=-1)
    g = x * x * x
    g[..., 1:] += d
    g[..., :-1] -= d
    return g


def chain_value(x):
    return 50.0 * (np.diff(x, axis=-1) ** 2).sum(-1) + ((x * x) ** 2).sum(-1) / 4


def chain_start():
    n = CHAIN
    return np.cos(np.linspace(0, 40, n)) + 0.1 * np.cos(np.arange(n))


def chain_peer():
    """solve_ivp(BDF) to t = 1 with its own tolerances and the exact sparse Jacobian."""
    n = CHAIN
    ones = np.full(n, 200.0)
    ones[[0, -1]] = 100.0

    def jacobian(t, x):
        return -diags([-100.0, ones + 3 * x * x, -100.0], [-1, 0, 1], (n, n), "csc")

    return solve_ivp(
        lambda t, x: -chain_slope(x),
        (0, 1),
        chain_start(),
        "BDF",
        jac=jacobian,
        t_eval=[1.0],
    ).y[:, -1]


def chain_run(jacobian, scheme, dt):
    """The same by ``flows``, which is given V and its gradient."""
    energy = fl.Potential(chain_value, gradient=chain_slope)
    flow = fl.Euclidean(jacobian=jacobian).flow(energy)
    return fl.solve(flow, chain_start(), (0, 1), scheme, dt=dt, save_at=[1.0]).u[-1]


def chain_exact():
    control = fl.Adaptive(rtol=1e-6, atol=1e-8)
    return chain_run(fl.Banded(1, 1), fl.Rosenbrock(), control)


def compared(ours, exact) -> tuple[float, float]:
    """Times of both, whose errors must be below 1e-3 (the peer's is 3e-4)."""
    for name, run in (("flows", ours), ("BDF", chain_peer)):
        error = float(np.abs(run() - exact).max())
        assert error < 1e-3, f"{name} has error {error:.2e}"
    return best(ours, 3), best(chain_peer, 3)


def large() -> tuple[float, float]:
    """A stiff chain of 196608 points, by products of V'' with vectors.

    Ours is given V and its gradient, and knows no pattern: ten steps of TR-BDF2, with
    differences of gradients for the products. The peer is given the exact Jacobian as a
    sparse matrix.
    """
    return compared(lambda: chain_run(fl.Krylov(), fl.TRBDF2(), 0.1), chain_exact())


def banded() -> tuple[float, float]:
    """The same chain; ours knows that V'' is tridiagonal, as the peer does.

    The entries of V'' are differences of gradients; the peer is given exact ones.
    """
    control = fl.Adaptive(rtol=1e-3, atol=1e-6)
    return compared(
        lambda: chain_run(fl.Banded(1, 1), fl.Rosenbrock(), control), chain_exact()
    )


VECTORS = {
    "RK4 on a 2-vector, per step; peer solve_ivp(RK45)": (runge_kutta, 1.0),
    "2e4 starts at rtol 1e-7, per start; peer solve_ivp(RK45)": (ensemble, 100.0),
    "Rosenbrock valley, stiff; peer solve_ivp(BDF)": (stiff, 0.7),
    "stiff chain of 196608, no Jacobian; peer BDF with it": (large, 1.0),
    "stiff chain of 196608, bands known; peer BDF with them": (banded, 1.5),
}
