"""Formulas in compiled code, and a chain: against SciPy and diffrax at equal errors.

Every solver gets the loosest tolerance of a list with which it reaches the error that
is asked for, so that none pays for digits that nobody wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import solve_ivp

import flows as fl

from .timing import best

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPILED"]


def timed(run: Any, exact: np.ndarray, within: float, repeats: int = 7) -> float:
    """Seconds of ``run(rtol)`` with the loosest rtol whose error is ``within``."""
    for rtol in 10.0 ** np.arange(-3.0, -11.0, -0.5):
        error = np.abs(np.ravel(run(rtol)) - np.ravel(exact)).max()
        if error <= within:
            return best(lambda rtol=rtol: run(rtol), repeats)
    raise ValueError(f"the error stays above {within:g}: {error:.2e}")


def control(rtol: float) -> fl.Adaptive:
    return fl.Adaptive(rtol=rtol, atol=1e-3 * rtol)


def scipy_run(slope: Any, start: np.ndarray, end: float, method: str, **options: Any):
    """solve_ivp as a function of rtol."""
    return lambda rtol: solve_ivp(
        slope, (0, end), start, method, rtol=rtol, atol=1e-3 * rtol, **options
    ).y[:, -1]


def diffrax_run(slope: Callable[..., Any], start: np.ndarray, end: float, each=False):
    """Compiled diffrax.diffeqsolve with Tsit5 as a function of rtol.

    ``each``: every entry of ``start`` is a start of its own, by ``jax.vmap``.
    """
    import diffrax
    import jax

    jax.config.update("jax_enable_x64", True)
    compiled: dict[float, Any] = {}

    def make(rtol: float):
        def one(x):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: slope(y)),
                diffrax.Tsit5(),
                0.0,
                end,
                None,
                x,
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-3 * rtol),
                saveat=diffrax.SaveAt(t1=True),
                max_steps=100_000,
            ).ys[-1]

        return jax.jit(jax.vmap(one) if each else one)

    def run(rtol: float) -> np.ndarray:
        if rtol not in compiled:
            compiled[rtol] = make(rtol)
        return np.asarray(compiled[rtol](jax.numpy.asarray(start)))

    return run


VALLEY = "(1 - x)**2 + 100*(y - x**2)**2"
VALLEY_START = np.array([-1.2, 1.0])


def valley_slope(x):
    """Minus the gradient of the valley, on numbers of any library."""
    a = x[1] - x[0] ** 2
    return 2 * (1 - x[0]) + 400 * a * x[0], -200 * a


def valley(peer: Any) -> tuple[float, float]:
    """The Rosenbrock valley to t = 10 within 1e-6."""
    flow = fl.Euclidean(compiled=True).flow(fl.Potential(VALLEY))

    def ours(rtol):
        run = fl.solve(flow, VALLEY_START, (0, 10), dt=control(rtol), save_at=[10.0])
        return run.u[-1]

    exact = scipy_run(
        lambda t, x: valley_slope(x), VALLEY_START, 10.0, "Radau", jac=flow.jacobian
    )(1e-12)
    return timed(ours, exact, 1e-6, 30), timed(peer, exact, 1e-6, 15)


def valley_scipy() -> tuple[float, float]:
    def slope(t, x):
        return valley_slope(x)

    return valley(scipy_run(slope, VALLEY_START, 10.0, "LSODA"))


def valley_diffrax() -> tuple[float, float]:
    import jax.numpy as jnp

    def slope(x):
        return jnp.stack(valley_slope(x))

    return valley(diffrax_run(slope, VALLEY_START, 10.0))


def wells_start() -> np.ndarray:
    return np.random.default_rng(0).uniform(-2, 2, 10_000)


def wells(peer: Any) -> tuple[float, float]:
    """10 000 starts in the double well x^4/4 - x^2/2 to t = 5 within 1e-6."""
    x, e = wells_start(), np.exp(5.0)
    exact = x * e / np.sqrt(1 + x * x * (e * e - 1))
    flow = fl.Euclidean().flow(fl.Potential("x**4/4 - x**2/2"))

    def ours(rtol):
        start, times = x[:, None], [5.0]
        return fl.solve(
            flow, start, (0, 5), fl.Tsit5(), dt=control(rtol), save_at=times
        ).u[-1]

    return timed(ours, exact, 1e-6, 30), timed(peer, exact, 1e-6)


def wells_scipy() -> tuple[float, float]:
    return wells(scipy_run(lambda t, y: y - y**3, wells_start(), 5.0, "RK45"))


def wells_diffrax() -> tuple[float, float]:
    return wells(diffrax_run(lambda y: y - y**3, wells_start(), 5.0, each=True))


def chain_value(x):
    """The chained valley, sum of (1 - x_i)^2 + 100 (x_{i+1} - x_i^2)^2."""
    a = x[..., 1:] - x[..., :-1] ** 2
    return ((1 - x[..., :-1]) ** 2 + 100 * a * a).sum(-1)


def chain_gradient(x):
    a = x[..., 1:] - x[..., :-1] ** 2
    g = np.zeros_like(x)
    g[..., :-1] = -2 * (1 - x[..., :-1]) - 400 * x[..., :-1] * a
    g[..., 1:] += 200 * a
    return g


CHAIN_START = np.resize([-1.2, 1.0], 1000)


def chain(peer: Any) -> tuple[float, float]:
    """The chained valley in R^1000 to t = 10 within 1e-4."""
    energy = fl.Potential(chain_value, gradient=chain_gradient)
    bands = fl.Banded(1, 1)
    flow = fl.Euclidean(jacobian=bands, compiled=True).flow(energy)
    plain = fl.Euclidean(jacobian=bands).flow(energy)

    def run(flow, scheme, rtol):
        return fl.solve(
            flow, CHAIN_START, (0, 10), scheme, dt=control(rtol), save_at=[10.0]
        ).u[-1]

    exact = run(plain, fl.Radau(), 1e-10)
    ours = timed(lambda rtol: run(flow, fl.Rosenbrock(), rtol), exact, 1e-4)
    return ours, timed(peer, exact, 1e-4, 3)


def chain_scipy() -> tuple[float, float]:
    def slope(t, x):
        return -chain_gradient(x)

    options = {"lband": 1, "uband": 1}
    return chain(scipy_run(slope, CHAIN_START, 10.0, "LSODA", **options))


def chain_diffrax() -> tuple[float, float]:
    import jax.numpy as jnp

    def slope(x):
        a = x[1:] - x[:-1] ** 2
        zero = jnp.zeros(1)
        left = 2 * (1 - x[:-1]) + 400 * x[:-1] * a
        return jnp.concatenate([left, zero]) - jnp.concatenate([zero, 200 * a])

    return chain(diffrax_run(slope, CHAIN_START, 10.0))


def diagonal() -> tuple[float, float]:
    """A quadratic of 1e5 coordinates and condition 1e6 to t = 10, set-up included."""
    a, start = np.geomspace(1e-6, 1.0, 100_000), np.ones(100_000)

    def ours():
        flow = fl.Euclidean().flow(fl.quadratic(a))
        run = fl.solve(flow, start, (0, 10), fl.Exact(), dt=10.0, save_at=[10.0])
        return run.u[-1]

    assert np.abs(ours() - np.exp(-10 * a)).max() < 1e-14
    return best(ours, 20), 5e-3


COMPILED = {
    "Rosenbrock valley to t = 10; peer solve_ivp(LSODA)": (valley_scipy, 3.0),
    "Rosenbrock valley to t = 10; peer diffrax Tsit5": (valley_diffrax, 3.0),
    "1e4 double wells; peer solve_ivp(RK45) on all at once": (wells_scipy, 8.0),
    "1e4 double wells; peer diffrax Tsit5 with vmap": (wells_diffrax, 8.0),
    "chained valley in R^1000; peer solve_ivp(LSODA), banded": (chain_scipy, 1.0),
    "chained valley in R^1000; peer diffrax Tsit5": (chain_diffrax, 1.0),
    "quadratic of 1e5, condition 1e6, exact; limit": (diagonal, 1.0),
}
