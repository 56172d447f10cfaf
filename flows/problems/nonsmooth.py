"""Gradient flows of vectors through kinks and into extinction, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from flows import energies, nonsmooth
from flows.energies import Potential
from flows.problems.arguments import interval, number, start, time
from flows.problems.base import Problem
from flows.problems.vectors import number_or_array, separable_energy, vector_spaces

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["absolute_value", "huber", "lasso", "power", "power_step"]

Array = Any
SUBGRADIENTS = (
    "H. Brezis, Operateurs maximaux monotones, North-Holland 1973, "
    "doi:10.1016/S0304-0208(08)72394-9"
)


@dataclass(frozen=True, eq=False)
class PowerPath:
    """x0 (1 + (p-2) r0^{p-2} t)^{-1/(p-2)}, and 0 after extinction."""

    p: float
    x0: Array

    def __call__(self, t: float) -> Array:
        s, q = time(t, 0.0), self.p - 2.0
        r = np.sqrt(np.sum(self.x0 * self.x0, axis=-1, keepdims=True))
        if q == 0.0:
            return self.x0 * math.exp(-s)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            growth = q * r**q * s
            factor = np.exp(-np.log1p(growth) / q)
        alive = (r > 0) & (growth > -1.0)
        return np.where(alive, self.x0 * np.where(alive, factor, 0.0), 0.0)

    def energy(self, t: float) -> Any:
        """abs(x)^p / p along the path."""
        r = np.sqrt(np.sum(self(t) ** 2, axis=-1))
        return number_or_array(r**self.p / self.p)


def power(
    p: float = 4.0, x0: Any = 1.0, *, t: tuple[float, float] | None = None
) -> Problem:
    """Power law V(x) = abs(x)^p / p, p >= 1, of the Euclidean length in any dimension.

    The path is radial, r' = -r^{p-1}: r = (r0^{2-p} + (p-2) t)^{-1/(p-2)} for p > 2,
    r0 e^{-t} for p = 2; for 1 <= p < 2 it is 0 from t = r0^{2-p}/(2-p) on.

    Parameters
    ----------
    p : float
        p >= 1; p = 1 is the length itself.
    x0 : float, (n,) or (b, n) array
    t : tuple of float, optional
        From t0 >= 0; by default (0, 1), or up to half the extinction time.

    Returns
    -------
    Problem
        ``rate`` is 2 for p = 2 and p max(r0)^{p-2} for p < 2 (a bound, sharp at the
        start only); for p > 2 the decay is algebraic. Constant for p < 2:
        ``extinction``, a number or one for each point.

    References
    ----------
    Brezis, doi:10.1016/S0304-0208(08)72394-9.
    """
    p = number(p, "p", least=1.0)
    x = start(x0)
    exact = PowerPath(p, x)
    r = np.sqrt(np.sum(x * x, axis=-1))
    largest = float(np.max(r))
    rate, constants, end = 2.0 if p == 2.0 else None, {}, 1.0
    if p < 2.0:
        constants["extinction"] = number_or_array(r ** (2.0 - p) / (2.0 - p))
        if largest > 0:
            rate = p * largest ** (p - 2.0)
            end = 0.5 * largest ** (2.0 - p) / (2.0 - p)
    length = "abs(x)" if x.shape[-1] == 1 else "r"
    energy: Energy
    if p == 2.0:
        energy = energies.quadratic(1.0)
    elif p == 1.0:
        energy = Potential(length)
    elif p.is_integer() and p <= 64:
        energy = Potential(f"{length}**{int(p)}/{int(p)}")
    else:
        energy = Potential(f"{length}**p/p", parameters={"p": p})
    return Problem(
        "power",
        energy,
        exact,
        interval((0.0, end) if t is None else t, 0.0),
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=rate,
        constants=constants,
        reference=SUBGRADIENTS,
    )


def power_step(p: float, r: Any, h: float) -> Any:
    """The length after a proximal step of abs(x)^p / p: s >= 0 with s + h s^{p-1} = r.

    Closed for p = 1, 3/2, 2, 3 and 4, in forms that do not cancel.

    Parameters
    ----------
    p : float
        One of these five.
    r : float or array
        Length before the step, not negative.
    h : float
        Step, positive.

    Raises
    ------
    ValueError
        For another p.

    Examples
    --------
    >>> from flows.problems import power_step
    >>> power_step(3.0, 2.0, 1.0)
    1.0
    """
    r, h = np.asarray(r, dtype=float), number(h, "h", above=0.0)
    match float(p):
        case 1.0:
            s = np.maximum(r - h, 0.0)
        case 1.5:
            s = (2.0 * r / (h + np.sqrt(h * h + 4.0 * r))) ** 2
        case 2.0:
            s = r / (1.0 + h)
        case 3.0:
            s = 2.0 * r / (1.0 + np.sqrt(1.0 + 4.0 * h * r))
        case 4.0:
            # s = 2/sqrt(3h) sinh(a) turns the cubic into sinh(3a).
            width = math.sqrt(3.0 * h)
            s = 2.0 / width * np.sinh(np.arcsinh(1.5 * width * r) / 3.0)
        case _:
            raise ValueError(
                f"`p` must be 1, 1.5, 2, 3 or 4 for a closed form, got {p}."
            )
    return number_or_array(s)


def _absolute_path(x0: Array, t: float) -> Array:
    return np.sign(x0) * np.maximum(np.abs(x0) - time(t, 0.0), 0.0)


def _absolute_energy(x0: Array, t: float) -> Any:
    return number_or_array(np.sum(np.abs(_absolute_path(x0, t)), axis=-1))


def absolute_value(x0: Any = 1.0, *, t: tuple[float, float] | None = None) -> Problem:
    """V(x) = sum_i abs(x_i): every coordinate walks to 0 at unit speed and stays.

    Proximal steps (minimizing movements) are exact; explicit ones chatter.

    Parameters
    ----------
    x0 : float, (n,) or (b, n) array
    t : tuple of float, optional
        From t0 >= 0; by default until twice the time of extinction.

    Returns
    -------
    Problem
        ``rate`` is 1/max abs(x0) (a bound, sharp at the start only). Constant:
        ``extinction``, when the last coordinate arrives.

    References
    ----------
    Brezis, doi:10.1016/S0304-0208(08)72394-9.
    """
    x = start(x0)
    last = float(np.abs(x).max())
    return Problem(
        "absolute_value",
        separable_energy("abs(x)", x),
        partial(_absolute_path, x),
        interval((0.0, 2.0 * last if last > 0 else 1.0) if t is None else t, 0.0),
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        exact_energy=partial(_absolute_energy, x),
        rate=1.0 / last if last > 0 else None,
        constants={"extinction": last},
        reference=SUBGRADIENTS,
    )


@dataclass(frozen=True, eq=False)
class LassoPath:
    """Flow of lam abs(x) + (x - b)^2/2 in every coordinate, through the kink."""

    b: float
    lam: float
    x0: Array

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        # By reflection every path starts on the right; one at 0 leaves towards b.
        side: Array = np.where(self.x0 == 0.0, np.sign(self.b), np.sign(self.x0))
        x, b = np.abs(self.x0), side * self.b
        near, far = b - self.lam, b + self.lam
        ahead = near + (x - near) * np.exp(-s)
        arrives = near < 0.0
        safe = np.where(arrives, near, -1.0)
        wait = np.where(arrives, np.log1p(x / -safe), np.inf)
        late = np.maximum(s - np.where(arrives, wait, 0.0), 0.0)
        beyond = np.where(far < 0.0, -far * np.expm1(-late), 0.0)
        return side * np.where(s < wait, ahead, beyond)

    def energy(self, t: float) -> Any:
        """Value along the path."""
        x = self(t)
        value = self.lam * np.abs(x) + 0.5 * (x - self.b) ** 2
        return number_or_array(np.sum(value, axis=-1))


def lasso(
    b: float = 2.0,
    lam: float = 0.5,
    x0: Any = -1.0,
    *,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """Lasso V(x) = sum_i lam abs(x_i) + (x_i - b)^2/2, exact through the kink.

    A path that meets 0 stays there if abs(b) <= lam and crosses at once otherwise.

    Parameters
    ----------
    b, lam : float
        lam >= 0.
    x0 : float, (n,) or (b, n) array
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is 2. The limit is soft thresholding of b; constant: ``minimum``.
    """
    b, lam = number(b, "b"), number(lam, "lam", least=0.0)
    x = start(x0)
    exact = LassoPath(b, lam, x)
    end = math.copysign(max(abs(b) - lam, 0.0), b)
    lowest = (lam * abs(end) + 0.5 * (end - b) ** 2) * x.shape[-1]
    return Problem(
        "lasso",
        separable_energy("lam*abs(x) + (x - b)**2/2", x, {"lam": lam, "b": b}),
        exact,
        interval(t, 0.0),
        limit=np.full_like(x, end),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=2.0,
        constants={"minimum": lowest},
        reference=SUBGRADIENTS,
    )


@dataclass(frozen=True, eq=False)
class HuberPath:
    """Speed delta down to abs(x) = delta, then delta e^{-t}, in every coordinate."""

    delta: float
    x0: Array

    def __call__(self, t: float) -> Array:
        s, r = time(t, 0.0), np.abs(self.x0)
        wait = np.maximum(r - self.delta, 0.0) / self.delta
        late = np.minimum(r, self.delta) * np.exp(-np.maximum(s - wait, 0.0))
        return np.sign(self.x0) * np.where(s < wait, r - self.delta * s, late)

    def energy(self, t: float) -> Any:
        """Value along the path."""
        r = np.abs(self(t))
        inner = np.minimum(r, self.delta)
        return number_or_array(np.sum(inner * (r - 0.5 * inner), axis=-1))


def huber(
    delta: float = 0.5, x0: Any = (2.0, -0.3), *, t: tuple[float, float] = (0.0, 6.0)
) -> Problem:
    """Huber's function: x^2/2 up to abs(x) = delta, delta abs(x) - delta^2/2 beyond.

    Far coordinates walk at speed delta, near ones relax as e^{-t}.

    Parameters
    ----------
    delta : float
        Positive.
    x0 : float, (n,) or (b, n) array
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is min(2, delta / max abs(x0)) (a bound). Constant: ``meets``, when a
        coordinate enters the parabola.

    References
    ----------
    P. J. Huber, doi:10.1214/aoms/1177703732.
    """
    delta = number(delta, "delta", above=0.0)
    x = start(x0)
    exact = HuberPath(delta, x)
    largest = float(np.abs(x).max())
    return Problem(
        "huber",
        nonsmooth.huber(delta),
        exact,
        interval(t, 0.0),
        limit=np.zeros_like(x),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        rate=2.0 if largest <= delta else delta / largest,
        constants={"meets": np.maximum(np.abs(x) - delta, 0.0) / delta},
        reference=SUBGRADIENTS,
    )
