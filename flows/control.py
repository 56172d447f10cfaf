"""Step-size control: fixed steps, and adaptive steps from an error estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import array_like, namespace, rms, to_numpy

__all__ = [
    "PI",
    "PID",
    "Adaptive",
    "Controller",
    "count_steps",
    "error_ratio",
    "first_step",
    "own_norm",
]

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


class Controller:
    """The step that follows from the errors of the last ones; a frozen dataclass.

    Errors are in units of the tolerance (1 is just accepted): numbers, or arrays with
    one entry for each member of a batch. A controller of your own defines ``raw``; a
    checkpoint knows ``PI`` and ``PID`` only.

    Attributes
    ----------
    safety : float
        Factor of every proposal.
    smallest, largest : float
        Bounds of the factor from one step to the next.
    """

    safety: float
    smallest: float
    largest: float

    def raw(self, errors: tuple[Any, Any, Any], ratios: tuple[Any, Any], q: Any) -> Any:
        """h_{n+1} / h_n without safety and bounds.

        Parameters
        ----------
        errors : (e_n, e_{n-1}, e_{n-2})
            Scaled errors of the last three accepted steps, positive; 1 before the run.
        ratios : (h_n / h_{n-1}, h_{n-1} / h_{n-2})
            Of these steps; 1 before the run.
        q : int
            The error estimate is O(h^q); one for each member where they are arrays.
        """
        raise NotImplementedError

    def factor(
        self, errors: tuple[Any, Any, Any], ratios: tuple[Any, Any], q: Any
    ) -> Any:
        """h_{n+1} / h_n after an accepted step."""
        if isinstance(errors[0], float):
            if errors[0] == 0.0:
                return self.largest
            raw = self.safety * self.raw(errors, ratios, q)
            return float(min(self.largest, max(self.smallest, raw)))
        # An error of 0 gives a huge factor, which the bound catches.
        kept = (np.maximum(errors[0], 1e-300), *errors[1:])
        raw = self.safety * self.raw(kept, ratios, q)
        return np.clip(raw, self.smallest, self.largest)

    def shrink(self, error: Any, q: Any) -> Any:
        """Factor after a rejected step (no history: the estimate has just failed)."""
        raw = self.safety * error ** (-1.0 / q)
        if isinstance(raw, float):
            return float(min(0.9, max(self.smallest, raw)))
        return np.clip(raw, self.smallest, 0.9)


@dataclass(frozen=True)
class PI(Controller):
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

    def raw(self, errors: tuple[Any, Any, Any], ratios: tuple[Any, Any], q: Any) -> Any:
        """See the class."""
        factor = errors[0] ** (-(self.integral + self.proportional) / q)
        return factor * errors[1] ** (self.proportional / q)


@dataclass(frozen=True)
class PID(Controller):
    """Controller with three errors and two step ratios: digital filters of the step.

    With the scaled errors e_k, r_k = h_k / h_{k-1} and an estimate of order q,

        h_{k+1} = h_k safety e_k^(-b1/q) e_{k-1}^(-b2/q) e_{k-2}^(-b3/q) r_k^(-a2)
                  r_{k-1}^(-a3)

    within the factors ``smallest`` and ``largest``. The default is the filter H312PID,
    whose step sequences are smooth and which is safe also where the error is irregular.
    ``PID.h211()`` is the shorter filter H211b, ``PID.h321()`` the predictive H321.

    Parameters
    ----------
    errors : (b1, b2, b3)
        Exponents of the last three errors. ``(k_I + k_P + k_D, -k_P - 2 k_D, k_D)`` is
        the classical PID controller with these gains.
    steps : (a2, a3)
        Exponents of the last two step ratios.

    Raises
    ------
    TypeError, ValueError
        For tuples of another length, and entries that are no finite numbers.

    References
    ----------
    G. Soederlind, Digital filters in adaptive time-stepping, ACM Trans. Math. Software
    29 (2003) 1-26, doi:10.1145/641876.641877.
    """

    errors: tuple[float, float, float] = (1 / 18, 1 / 9, 1 / 18)
    steps: tuple[float, float] = (0.0, 0.0)
    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 5.0

    def __post_init__(self) -> None:
        for name, count in (("errors", 3), ("steps", 2)):
            try:
                values = tuple(float(v) for v in getattr(self, name))
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"`{name}` must be {count} numbers, got {getattr(self, name)!r}."
                ) from error
            if len(values) != count or not all(map(math.isfinite, values)):
                raise ValueError(f"`{name}` must be {count} numbers, got {values!r}.")
            object.__setattr__(self, name, values)

    def raw(self, errors: tuple[Any, Any, Any], ratios: tuple[Any, Any], q: Any) -> Any:
        """See the class."""
        (b1, b2, b3), (a2, a3) = self.errors, self.steps
        factor = errors[0] ** (-b1 / q) * errors[1] ** (-b2 / q)
        if b3:
            factor = factor * errors[2] ** (-b3 / q)
        if a2:
            factor = factor * ratios[0] ** -a2
        return factor * ratios[1] ** -a3 if a3 else factor

    @classmethod
    def h211(cls, b: float = 4.0) -> PID:
        """Filter H211b: errors (1/b, 1/b, 0), steps (1/b, 0); smoother for larger b."""
        b = positive("b", b)
        return cls((1 / b, 1 / b, 0.0), (1 / b, 0.0))

    @classmethod
    def h321(cls) -> PID:
        """Predictive filter H321: errors (1/3, 1/18, -5/18), steps (-5/6, -1/6)."""
        return cls((1 / 3, 1 / 18, -5 / 18), (-5 / 6, -1 / 6))


@dataclass(frozen=True)
class Adaptive:
    """Steps from the scheme's own error estimate.

    A step is accepted when ``norm(error / (atol + rtol |u|)) <= 1``; the norm is the
    flow's, by default the root mean square over all entries. A step that ends in a
    state the flow does not admit is rejected and halved.

    The members of a batch (b, n) whose flow has a norm for each (``Euclidean``) have
    steps of their own between the save times: give ``save_at``. With every step saved
    they share the steps, the worst member decides.

    The tolerance bounds the error of one step. A scheme of order p whose estimate is
    O(h^q) makes a global error O(tolerance^(p/q)): in proportion for the pairs with
    q = p (Heun, BogackiShampine, DormandPrince, Tsit5, DOP853, SDIRK3), but as
    tolerance^(2/3) for TRBDF2 and BDF2 (p = 2, q = 3) and tolerance^(1/2) for
    ImplicitEuler: at rtol = 1e-7 some 10 to 200 times rtol for TRBDF2 and BDF2. Where
    the error at the end matters, take rtol smaller by that factor, or SDIRK3.

    Parameters
    ----------
    rtol, atol : float
        Relative and absolute tolerance, not both 0.
    first, largest : float, optional
        First step and upper bound of the step, in units of time.
    max_steps : int
        Steps (of each member) after which the run stops with a SolveError.
    controller : PI or PID
        How the next step follows from the last errors.
    """

    rtol: float = 1e-6
    atol: float = 1e-9
    first: float | None = None
    largest: float | None = None
    max_steps: int = 100_000
    controller: Controller = field(default_factory=PI)

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
        if not isinstance(self.controller, Controller):
            raise TypeError(
                f"`controller` must be PI(...) or PID(...), got {self.controller!r}."
            )


def count_steps(span: float, dt: float) -> int:
    """Equal steps of at most ``dt`` (to rounding) that fill ``span``."""
    count = span / dt
    if math.isinf(count):
        raise ValueError(f"`dt` = {dt:g} is too small for a span of {span:g}.")
    return max(1, math.ceil(count - 1e-9))


def own_norm(flow: Any, u: Array) -> bool:
    """Whether the flow's norm is one number for each member of the batch ``u``."""
    norm = getattr(flow, "norm", None)
    if norm is None or u.ndim < 2:
        return False
    return np.shape(to_numpy(norm(namespace(u).ones_like(u)))) == (u.shape[0],)


def error_ratio(
    flow: Any, control: Adaptive, error: Array, before: Array, after: Array
) -> Any:
    """Error in units of the tolerance: a float, or (b,) from a norm of each member."""
    xp = namespace(after)
    size = xp.maximum(xp.abs(before), xp.abs(after))
    norm = getattr(flow, "norm", None) or rms
    ratio = norm(error / (control.atol + control.rtol * size))
    return ratio if isinstance(ratio, float) else to_numpy(ratio)


def first_step(
    flow: Any, control: Adaptive, t: Any, u: Array, order: int, span: Any
) -> Any:
    """Starting step of Hairer, Norsett and Wanner, Solving ODEs I, II.4.

    One per cent of the time in which u changes by its own size, corrected by the
    observed second derivative. A float for a float ``t``; (b,) for ``t`` and ``span``
    of shape (b,), from the flow's norm of each member.
    """
    own = np.ndim(t) > 0
    limit = np.minimum(span, control.largest or math.inf)
    if control.first is not None:
        h = np.minimum(control.first, limit)
    elif not hasattr(flow, "velocity"):
        h = np.minimum(limit, np.where(np.isfinite(span), 1e-3 * span, 1e-3))
    else:
        with np.errstate(all="ignore"):
            h = guess(flow, control, t, u, order, limit)
        h = np.where(h > 0.0, np.minimum(h, limit), np.minimum(1e-6, limit))
    return h if own else float(h)


def guess(
    flow: Any, control: Adaptive, t: Any, u: Array, order: int, limit: Any
) -> np.ndarray:
    """The formula of ``first_step``; not positive or NaN where it has no answer."""
    own = np.ndim(t) > 0

    def given(s: Any) -> Any:
        """A time or step as the flow takes it."""
        return array_like(s[:, None], u) if own else float(s)

    def size(e: Array) -> np.ndarray:
        return np.asarray(to_numpy(flow.norm(e)) if own else rms(e))

    scale = control.atol + control.rtol * namespace(u).abs(u)
    slope = flow.velocity(given(t), u)
    d0, d1 = size(u / scale), size(slope / scale)
    h0 = np.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1)
    h0 = np.minimum(h0, limit)
    usable = np.where(h0 > 0.0, h0, 1e-6)
    later = flow.velocity(given(t + usable), u + given(usable) * slope)
    d2 = size((later - slope) / scale) / usable
    steepest = np.maximum(d1, d2)
    h1 = np.where(
        steepest <= 1e-15,
        np.maximum(1e-6, 1e-3 * h0),
        (0.01 / steepest) ** (1.0 / (order + 1)),
    )
    h = np.where(np.isfinite(d2), np.minimum(100.0 * h0, h1), 1e-2 * h0)
    result: np.ndarray = np.where(h0 > 0.0, h, h0)
    return result
