"""Step doubling: an error estimate for every one-step scheme."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.flow import Step
from flows.schemes.base import Scheme

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["StepDoubling"]

Array = Any


@dataclass(frozen=True)
class StepDoubling(Scheme):
    """Two half steps of a scheme of order p, and a whole one to estimate their error.

    With v from two steps of h/2 and w from one of h, the error of v is

        e = (w - v) / (2^p - 1) = O(h^(p+1))

    The step ends at v, of order p, or with ``extrapolate`` at v - e, of order p + 1.
    It makes ``Adaptive`` work with schemes that have no estimate of their own, at the
    cost of three of their steps: RK4, splittings, discrete gradients. Its real
    stability interval is twice that of the scheme; extrapolated, it is computed from
    the stability function.

    Parameters
    ----------
    scheme : Scheme
        A one-step scheme that draws no random numbers.
    extrapolate : bool
        Whether the step ends at the extrapolated value; then an implicit scheme keeps
        neither its damping of stiff components nor the descent of the energy.

    Raises
    ------
    TypeError, ValueError
        For what is no scheme, multistep and random schemes, and ``Exact``, which has no
        error.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I,
    section II.4, doi:10.1007/978-3-540-78862-1.

    Examples
    --------
    >>> from flows.schemes import RK4, StepDoubling
    >>> StepDoubling(RK4()).order, StepDoubling(RK4(), extrapolate=True).order
    (4, 5)
    """

    scheme: Scheme
    extrapolate: bool = False

    def __post_init__(self) -> None:
        inner = self.scheme
        if not isinstance(inner, Scheme):
            raise TypeError(
                f"`scheme` must be a one-step scheme such as RK4(), got {inner!r}."
            )
        if inner.multistep:
            raise ValueError(
                f"`{inner!r}` needs the history of earlier steps, which two half steps "
                "do not have; take a one-step scheme such as TRBDF2() or RK4()."
            )
        if inner.random:
            raise ValueError(
                f"`{inner!r}` draws random numbers: half steps follow another path, so "
                "their difference is no error. Take a number `dt`."
            )
        if inner.order >= sys.maxsize:
            raise ValueError(f"`{inner!r}` makes no error in time to be estimated.")

    def __repr__(self) -> str:
        more = ", extrapolate=True" if self.extrapolate else ""
        return f"StepDoubling({self.scheme!r}{more})"

    @property
    def order(self) -> int:  # type: ignore[override]
        """p, or p + 1 with extrapolation."""
        return self.scheme.order + int(self.extrapolate)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the scheme needs."""
        return self.scheme.needs

    @property
    def error_order(self) -> int | None:  # type: ignore[override]
        """p + 1."""
        return self.scheme.order + 1

    @property
    def dissipative(self) -> bool:  # type: ignore[override]
        """Whether the scheme is; never with extrapolation."""
        return self.scheme.dissipative and not self.extrapolate

    @property
    def stability(self) -> float:  # type: ignore[override]
        """Length of the real stability interval."""
        inner = self.scheme.stability
        if not self.extrapolate or math.isinf(inner):
            return 2.0 * inner
        return extrapolated_interval(self.scheme)

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        inner, half = self.scheme, 0.5 * h
        first = inner.step(flow, t, u, half, None, memory)
        second = inner.step(flow, t + half, first.u, half, None, first.memory)
        whole = inner.step(flow, t, u, h, None, memory)
        work = Counter[str]()
        for step in (first, second, whole):
            work.update(step.stats)
        error = (whole.u - second.u) * (1.0 / (2.0**inner.order - 1.0))
        if self.extrapolate:
            # What the scheme remembers belongs to another state.
            return Step(second.u - error, error, (), dict(work))
        return Step(second.u, error, second.memory, dict(work))

    def obstacle(self, flow: Any) -> str | None:
        """Why this scheme cannot run ``flow``; None when it can."""
        problem = self.scheme.obstacle(flow)
        if problem is None and self.scheme.draws_noise(flow):
            problem = (
                f"`{self!r}` cannot estimate the error of a path with noise; take "
                f"`{self.scheme!r}` with a number `dt`"
            )
        return problem


@lru_cache(maxsize=64)
def extrapolated_interval(scheme: Scheme) -> float:
    """Where |(2^p R(z/2)^2 - R(z)) / (2^p - 1)| first exceeds 1, to three digits."""
    decay = SimpleNamespace(space=None, velocity=lambda t, u: -u)

    def growth(x: float) -> float:
        def R(y: float) -> float:
            one = np.array([1.0])
            return float(scheme.step(decay, 0.0, one, y, None, ()).u[0])  # type: ignore[arg-type]

        weight = 2.0**scheme.order
        return abs((weight * R(0.5 * x) ** 2 - R(x)) / (weight - 1.0))

    step = 1e-3 * scheme.stability
    x = step
    while growth(x) <= 1.0 + 1e-12 and x < 8.0 * scheme.stability:
        x += step
    return x - step
