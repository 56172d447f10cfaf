"""Step-size control: fixed steps, and adaptive steps from an error estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import namespace, rms, to_numpy

__all__ = ["PI", "Adaptive", "count_steps", "error_ratio", "first_step"]

Array = Any


def positive(name: str, value: Any, *, zero: bool = False) -> float:
    """``value`` as a float; ValueError or TypeError unless positive and finite."""
    if isinstance(value, bool) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    allowed = value >= 0 if zero else value > 0
    if not (allowed and math.isfinite(value)):
        kind = "non-negative" if zero else "positive"
        raise ValueError(f"`{name}` must be a {kind} finite number, got {value!r}.")
    return float(value)


@dataclass(frozen=True)
class PI:
    """Proportional-integral controller of the step.

    With the scaled error e_k of a step (1 is the tolerance) and an estimate of order q,

        h_new = h safety e_k^(-(integral + proportional)/q) e_{k-1}^(proportional/q)

    within the factors ``smallest`` and ``largest``.

    References
    ----------
    K. Gustafsson, ACM TOMS 17 (1991) 533-554, doi:10.1145/210232.210242.
    """

    integral: float = 0.3
    proportional: float = 0.4
    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 5.0

    def factor(self, error: float, previous: float, q: int) -> float:
        """Factor for the next step after an error ratio ``error``."""
        if error == 0.0:
            return self.largest
        raw = self.safety * error ** (-(self.integral + self.proportional) / q)
        raw *= previous ** (self.proportional / q)
        return float(min(self.largest, max(self.smallest, raw)))

    def shrink(self, error: float, q: int) -> float:
        """Factor after a rejected step (no history: the estimate has just failed)."""
        raw = self.safety * error ** (-1.0 / q)
        return float(min(0.9, max(self.smallest, raw)))


@dataclass(frozen=True)
class Adaptive:
    """Steps from the scheme's own error estimate.

    A step is accepted when ``norm(error / (atol + rtol |u|)) <= 1``; the norm is the
    flow's, by default the root mean square over all entries.

    Parameters
    ----------
    rtol, atol : float
        Relative and absolute tolerance, not both 0.
    first, largest : float, optional
        First step and upper bound of the step, in units of time.
    max_steps : int
        Steps after which the run stops with a SolveError.
    controller : PI
    """

    rtol: float = 1e-6
    atol: float = 1e-9
    first: float | None = None
    largest: float | None = None
    max_steps: int = 100_000
    controller: PI = field(default_factory=PI)

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            object.__setattr__(
                self, name, positive(name, getattr(self, name), zero=True)
            )
        if self.rtol == self.atol == 0.0:
            raise ValueError("`rtol` and `atol` must not both be 0.")
        for name in ("first", "largest"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive(name, getattr(self, name)))
        steps = self.max_steps
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
            raise TypeError(f"`max_steps` must be an integer, got {steps!r}.")
        if steps < 1:
            raise ValueError(f"`max_steps` must be at least 1, got {steps}.")
        if not isinstance(self.controller, PI):
            raise TypeError(f"`controller` must be PI(...), got {self.controller!r}.")


def count_steps(span: float, dt: float) -> int:
    """Equal steps of at most ``dt`` (to rounding) that fill ``span``."""
    count = span / dt
    if math.isinf(count):
        raise ValueError(f"`dt` = {dt:g} is too small for a span of {span:g}.")
    return max(1, math.ceil(count - 1e-9))


def error_ratio(
    flow: Any, control: Adaptive, error: Array, before: Array, after: Array
) -> float:
    """Error in units of the tolerance; accepted when at most 1."""
    xp = namespace(after)
    size = xp.maximum(xp.abs(before), xp.abs(after))
    norm = getattr(flow, "norm", None) or rms
    ratio = norm(error / (control.atol + control.rtol * size))
    return float(ratio if isinstance(ratio, float) else np.max(to_numpy(ratio)))


def first_step(
    flow: Any, control: Adaptive, t: float, u: Array, order: int, span: float
) -> float:
    """Starting step of Hairer, Norsett and Wanner, Solving ODEs I, II.4.

    One per cent of the time in which u changes by its own size, corrected by the
    observed second derivative.
    """
    limit = min(span, control.largest or math.inf)
    if control.first is not None:
        return min(control.first, limit)
    if not hasattr(flow, "velocity"):
        return min(limit, 1e-3 * span if math.isfinite(span) else 1e-3)
    with np.errstate(all="ignore"):
        h = guess(flow, control, t, u, order, limit)
    return min(h, limit) if h > 0.0 else min(1e-6, limit)


def guess(
    flow: Any, control: Adaptive, t: float, u: Array, order: int, limit: float
) -> float:
    """The formula of ``first_step``; not positive or NaN where it has no answer."""
    scale = control.atol + control.rtol * namespace(u).abs(u)
    slope = flow.velocity(t, u)
    d0, d1 = rms(u / scale), rms(slope / scale)
    h0 = min(1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1, limit)
    if not h0 > 0.0:
        return h0
    d2 = rms((flow.velocity(t + h0, u + h0 * slope) - slope) / scale) / h0
    if not math.isfinite(d2):
        return h0 * 1e-2
    steepest = max(d1, d2)
    h1 = (
        max(1e-6, 1e-3 * h0)
        if steepest <= 1e-15
        else (0.01 / steepest) ** (1.0 / (order + 1))
    )
    return min(100.0 * h0, h1)
