"""Stiff and non-convex energies on the line, with what is known about their flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows import energies
from flows.energies import Potential
from flows.measures.checks import real_array
from flows.problems.arguments import interval, start, time
from flows.problems.base import Problem
from flows.problems.vectors import number_or_array, separable_energy, vector_spaces

__all__ = ["log_cosh", "sine_valley", "stiff_quartic"]

Array = Any


def positive(value: Any, n: int, name: str) -> Array:
    """Positive numbers (n,)."""
    found = real_array(value, name)
    if found.shape not in ((), (n,)):
        raise ValueError(
            f"`{name}` has shape {found.shape}, expected a number or ({n},)."
        )
    if not (found > 0.0).all():
        raise ValueError(f"`{name}` must be positive, its smallest is {found.min():g}.")
    return np.array(np.broadcast_to(found, (n,)))


@dataclass(frozen=True, eq=False)
class QuarticPath:
    """x_0 e^{-at} / sqrt(1 + x_0^2 (1 - e^{-2at})/a)."""

    rates: Array
    x0: Array

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        grown = -np.expm1(-2.0 * self.rates * s) / self.rates
        return self.x0 * np.exp(-self.rates * s) / np.sqrt(1.0 + self.x0**2 * grown)

    def energy(self, t: float) -> Any:
        """Energy along the path."""
        x = self(t)
        return number_or_array(np.sum(0.5 * self.rates * x**2 + 0.25 * x**4, axis=-1))


def stiff_quartic(
    rates: Any = (1.0, 1e4), x0: Any = (1.0, 2.0), *, t: tuple[float, float] = (0, 1)
) -> Problem:
    """V(x) = sum_i a_i x_i^2/2 + x_i^4/4, a Bernoulli equation in every coordinate.

    Not quadratic and as stiff as the rates say; the exact path is
    x_0 e^{-at}/sqrt(1 + x_0^2 (1 - e^{-2at})/a).

    Parameters
    ----------
    rates : float or (n,) array
        a_i > 0.
    x0 : float, (n,) or (b, n) array
    t : tuple of float
        From t0 >= 0.
    """
    x = start(x0)
    a = positive(rates, x.shape[-1], "rates")
    exact = QuarticPath(a, x)
    return Problem(
        "stiff_quartic",
        energies.quadratic(a) + separable_energy("x**4/4", x),
        exact,
        interval(t, 0.0),
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=2.0 * float(a.min()),
        constants={"minimum": 0.0, "convexity": float(a.min())},
    )


def log_cosh_of(x: Array) -> Array:
    """log cosh x without overflow."""
    size = np.abs(x)
    return size + np.log1p(np.exp(-2.0 * size)) - np.log(2.0)


@dataclass(frozen=True, eq=False)
class LogCoshPath:
    """sinh x = e^{-at} sinh x_0."""

    rates: Array
    x0: Array

    def __call__(self, t: float) -> Array:
        s, size = time(t, 0.0), np.abs(self.x0)
        moving = size > 0.0
        safe = np.where(moving, size, 1.0)
        # log sinh |x|, which does not overflow.
        level = safe + np.log(-np.expm1(-2.0 * safe)) - np.log(2.0) - self.rates * s
        near = np.arcsinh(np.exp(np.minimum(level, 20.0)))
        far = level + np.log(2.0)
        x = np.where(level > 20.0, far, near)
        return np.where(moving, np.sign(self.x0) * x, 0.0)

    def energy(self, t: float) -> Any:
        """Energy along the path."""
        return number_or_array(np.sum(self.rates * log_cosh_of(self(t)), axis=-1))


def log_cosh(
    rates: Any = 1.0, x0: Any = (1.0, -2.0), *, t: tuple[float, float] = (0, 3)
) -> Problem:
    """V(x) = sum_i a_i log cosh x_i, sinh x_i = e^{-a_i t} sinh x_i(0).

    Far out it is an absolute value, whose flow has unit speed; near 0 a quadratic.

    Parameters
    ----------
    rates : float or (n,) array
        a_i > 0.
    x0 : float, (n,) or (b, n) array
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is the smallest a tanh(x_0)^2/log cosh x_0, which grows to 2 a.
    """
    x = start(x0)
    n = x.shape[-1]
    a = positive(rates, n, "rates")
    exact = LogCoshPath(a, x)
    if np.ptp(a) == 0.0:
        energy = separable_energy("a*logcosh(x)", x, {"a": float(a[0])})
    else:
        names = "xyz"[:n] if n <= 3 else [f"x{i + 1}" for i in range(n)]
        text = " + ".join(f"a{i}*logcosh({name})" for i, name in enumerate(names))
        energy = Potential(
            text, parameters={f"a{i}": float(b) for i, b in enumerate(a)}
        )
    moving = x != 0.0
    safe = np.where(moving, x, 1.0)
    local = np.where(moving, np.tanh(safe) ** 2 / log_cosh_of(safe), 2.0) * a
    return Problem(
        "log_cosh",
        energy,
        exact,
        interval(t, 0.0),
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=float(local.min()),
        constants={"minimum": 0.0, "convexity": 0.0},
    )


# The minimum of V'^2 / 2V over the line.
SINE_VALLEY_MU = 0.17553098587973173


def sine_valley(x0: Any = 3.0, *, t: tuple[float, float] = (0.0, 5.0)) -> Problem:
    """V(x) = sum_i x_i^2 + 3 sin(x_i)^2, not convex, with one stationary point.

    It satisfies the Polyak-Lojasiewicz inequality V'^2 >= 2 mu V with mu = 0.17553, so
    that V(x(t)) <= e^{-2 mu t} V(x(0)). ``exact`` is None.

    Parameters
    ----------
    x0 : float, (n,) or (b, n) array
    t : tuple of float

    Returns
    -------
    Problem
        ``rate`` is 2 mu. Constants: ``mu``, ``L`` = 8, ``convexity`` = -4, ``minimum``.

    References
    ----------
    H. Karimi, J. Nutini, M. Schmidt, Linear convergence of gradient and proximal-
    gradient methods under the Polyak-Lojasiewicz condition, ECML PKDD (2016),
    doi:10.1007/978-3-319-46128-1_50.
    """
    x = start(x0)
    return Problem(
        "sine_valley",
        separable_energy("x**2 + 3*sin(x)**2", x),
        None,
        interval(t),
        start=x,
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        rate=2.0 * SINE_VALLEY_MU,
        constants={"mu": SINE_VALLEY_MU, "L": 8.0, "convexity": -4.0, "minimum": 0.0},
        reference="Karimi, Nutini, Schmidt (2016), doi:10.1007/978-3-319-46128-1_50",
    )
