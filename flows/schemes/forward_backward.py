"""Splittings of an energy into a smooth part and a part with a proximal map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step, missing
from flows.schemes.base import Scheme, describe, lacking, start_slope

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["DouglasRachford", "ForwardBackward"]

Array = Any


class _TwoParts(Scheme):
    """What both ask of a flow: ``parts()`` named "smooth" and "prox"."""

    needs: ClassVar[tuple[str, ...]] = ("parts",)
    smooth_needs: ClassVar[tuple[str, ...]]

    def obstacle(self, flow: Any) -> str | None:
        """Why this scheme cannot run ``flow``; None when it can."""
        reason = lacking(self, flow)
        if reason:
            return reason
        parts = flow.parts()
        if set(parts) != {"smooth", "prox"}:
            return (
                f"`{self!r}` needs the parts 'smooth' and 'prox', but those of "
                f"{describe(flow)} are {', '.join(map(repr, parts))}"
            )
        for name, needs in (("smooth", self.smooth_needs), ("prox", ("prox",))):
            try:
                absent = missing(parts[name], needs)
            except TypeError as error:
                return f"In the part {name!r}: {str(error).rstrip('.')}"
            if absent:
                return f"The part {name!r} of {describe(flow)} has no `{absent[0]}`"
        return None


@dataclass(frozen=True)
class ForwardBackward(_TwoParts):
    """v = prox_h R (u - h grad S(u)) for an energy S + R: one gradient, one prox.

    An explicit Euler step on S and an implicit one on R, also known as the proximal
    gradient method. Order 1; with L the Lipschitz constant of grad S it is stable for
    h < 2/L and lowers a convex energy at every step. Its fixed points are the
    minimizers of S + R for every h. Needs ``parts`` named "smooth" and "prox"; the
    error estimate is O(h^2).

    References
    ----------
    P.-L. Lions, B. Mercier, Splitting algorithms for the sum of two nonlinear
    operators, SIAM J. Numer. Anal. 16 (1979) 964-979, doi:10.1137/0716071.
    P. L. Combettes, V. R. Wajs, Signal recovery by proximal forward-backward splitting,
    Multiscale Model. Simul. 4 (2005) 1168-1200, doi:10.1137/050626090.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> flow = fl.Euclidean().flow(fl.quadratic(b=2.0) + fl.nonsmooth.l1(0.5))
    >>> sol = fl.solve(flow, np.zeros(1), (0, 20), fl.ForwardBackward(), dt=0.5)
    >>> round(float(sol.u[-1, 0]), 9)
    1.5
    """

    order: ClassVar[int] = 1
    stability: ClassVar[float] = 2.0
    error_order: ClassVar[int | None] = 2
    dissipative: ClassVar[bool] = True
    smooth_needs: ClassVar[tuple[str, ...]] = ("velocity",)

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        slope, work = (memory[0], {}) if memory else start_slope(flow, t, u)
        parts = flow.parts()
        forward = u + h * parts["smooth"].velocity(t, u)
        v, _ = parts["prox"].prox(t + h, forward, h, ())
        rise = v - u
        error = rise if slope is None else 0.5 * (rise - h * slope)
        work["velocity_calls"] = work.get("velocity_calls", 0) + 1
        work["prox_calls"] = 1
        return Step(v, error, (rise / h,), work)


@dataclass(frozen=True)
class DouglasRachford(_TwoParts):
    """Implicit steps on both parts of an energy S + R, one after the other.

        w = (1 + h grad S)^{-1} (u - h b),   v = (1 + h dR)^{-1} (w + h b),
        b' = (w + h b - v) / h

    with b in dR(u), which ``memory`` holds. Order 1, stable for every h, at rest in the
    minimizers of S + R for every h; the state is one of R, so that zeros and bounds are
    exact. Needs ``parts`` named "smooth", with a ``resolvent``, and "prox"; the error
    estimate is O(h^2). The energy need not fall at every step.

    References
    ----------
    J. Douglas, H. H. Rachford, On the numerical solution of heat conduction problems in
    two and three space variables, Trans. Amer. Math. Soc. 82 (1956) 421-439,
    doi:10.1090/S0002-9947-1956-0084194-4.
    P.-L. Lions, B. Mercier, Splitting algorithms for the sum of two nonlinear
    operators, SIAM J. Numer. Anal. 16 (1979) 964-979, doi:10.1137/0716071.
    """

    order: ClassVar[int] = 1
    error_order: ClassVar[int | None] = 2
    multistep: ClassVar[bool] = True
    smooth_needs: ClassVar[tuple[str, ...]] = ("resolvent",)

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        parts = flow.parts()
        even, rough = parts["smooth"], parts["prox"]
        work = {"resolvent_calls": 1, "prox_calls": 1}
        if memory:
            b, slope, kept = memory[0], memory[1], memory[2:]
        else:
            b, kept = -rough.velocity(t, u), ()
            slope = even.velocity(t, u) - b
            work["velocity_calls"] = 1
        w, kept = even.resolvent(t + h, u - h * b, h, kept)
        ahead = w + h * b
        v, _ = rough.prox(t + h, ahead, h, ())
        rise = v - u
        error = 0.5 * (rise - h * slope)
        return Step(v, error, ((ahead - v) / h, rise / h, *kept), work)
