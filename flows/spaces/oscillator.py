"""The damped oscillator p'' + g p' + l p = 1 in closed form, in all three regimes."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["responses"]

Array = Any
# Below this size of l t^2 + g t the power series is exact to rounding, and the closed
# forms cancel.
SMALL = 0.25
TERMS = 14


def responses(
    stiffness: Any, friction: float, t: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses p, s = p', q = p'' to a unit force switched on at time 0.

    The path of x'' + friction x' + stiffness x = force is then

        x = (1 - stiffness p) x0 + s v0 + p force
        v = -stiffness s x0 + q v0 + s force

    Parameters
    ----------
    stiffness : array
        Of any sign; broadcasts against ``t``.
    friction : float
        At least 0.
    t : float or array
        Time elapsed, at least 0.

    Returns
    -------
    p, s, q : float64 arrays
    """
    rate, time = np.broadcast_arrays(
        np.asarray(stiffness, dtype=float), np.asarray(t, dtype=float)
    )
    half = 0.5 * friction
    gap = half * half - rate
    with np.errstate(all="ignore"):
        slow = overdamped(rate, half, np.sqrt(np.maximum(gap, 0.0)), time)
        fast = underdamped(rate, half, np.sqrt(np.maximum(-gap, 0.0)), time)
        early = series(rate, friction, time)
        small = np.abs(rate) * time * time + friction * time < SMALL
    p, s, q = (
        np.where(small, a, np.where(gap > 0.0, b, c))
        for a, b, c in zip(early, slow, fast, strict=True)
    )
    return p, s, q


def overdamped(
    rate: Array, half: float, kappa: Array, t: Array
) -> tuple[Array, Array, Array]:
    """Two real roots -half +- kappa; the slow one is formed without cancellation."""
    far = -(half + kappa)
    near = rate / far
    slow, fast = np.exp(near * t), np.exp(far * t)
    spread = 2.0 * kappa
    s = -slow * np.expm1(-spread * t) / spread
    q = (near * slow - far * fast) / spread
    p = (decayed(near, t) - decayed(far, t)) / spread
    # Close to the double root the differences above cancel; s does not.
    close = spread * t < 1e-2
    mean = 0.5 * (slow + fast)
    q = np.where(close, mean - half * s, q)
    p = np.where(close, (1.0 - mean - half * s) / rate, p)
    return p, s, q


def decayed(root: Array, t: Array) -> Array:
    """(e^{root t} - 1) / root, t at root 0."""
    safe = np.where(root == 0.0, 1.0, root)
    return np.where(root == 0.0, t, np.expm1(safe * t) / safe)


def underdamped(
    rate: Array, half: float, omega: Array, t: Array
) -> tuple[Array, Array, Array]:
    """Two complex roots -half +- i omega, or a double one."""
    decay = np.exp(-half * t)
    c = decay * np.cos(omega * t)
    s = decay * t * np.sinc(omega * t / np.pi)
    return (1.0 - c - half * s) / rate, s, c - half * s


def series(rate: Array, friction: float, t: Array) -> tuple[Array, Array, Array]:
    """Power series of p, s and q in t."""
    term, before = 0.5 * t * t, np.zeros_like(t)
    p, s, q = term.copy(), t.copy(), np.ones_like(t)
    # k a_k t^k is kept instead of a_k: its quotients by t are s and q.
    for k in range(2, 2 + TERMS):
        following = -(friction * k * t * term + rate * t * t * before) / (k * (k + 1))
        p, s = p + following, s + (k + 1) * over(following, t)
        q = q + (k + 1) * k * over(over(following, t), t)
        term, before = following, term
    return p, s, q


def over(a: Array, t: Array) -> Array:
    """a / t, 0 at t = 0, where every a of the series vanishes faster."""
    return np.where(t == 0.0, 0.0, a / np.where(t == 0.0, 1.0, t))
