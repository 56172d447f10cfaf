"""Adaptive steps that shrink at one place, where no number of them reaches the end.

The error estimate of a scheme that knows nothing of a kink, and a bound that the path
wants to cross, both leave steps of the size of the tolerance. Whether the attempts are
too slow is asked once in a while, and a run is ended only where a cause is found: a
stiff one may go on until ``max_steps``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace, to_numpy, without_graph

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REACH", "WINDOW", "Pace", "slides", "too_slow"]

Array = Any
# Attempts between two looks at the time that they gained.
WINDOW = 200
# One in so many attempts has to end outside for the bound to be the cause.
FEW = 8
# A chattering state is within a few steps of its kink.
REACH = 4.0
HALVINGS = 40


@dataclass
class Pace:
    """Time, attempts and attempts that ended outside, at the last look.

    Numbers, or arrays with one entry for each member of a batch.
    """

    t: Any = 0.0
    tried: Any = 0
    outside: Any = 0

    def beyond(self, tried: Any) -> Any:
        """Whether many of the attempts since the last look ended outside."""
        return (self.outside > 0) & (FEW * self.outside >= tried - self.tried)


def too_slow(
    t: Any, pace: Pace, tried: Any, end: float, max_steps: int
) -> np.ndarray | Any:
    """Whether ``max_steps`` attempts as long as the last ones do not reach the end.

    An endless run is to double its time.
    """
    left = end - t if math.isfinite(end) else abs(t)
    return (t - pace.t) * max_steps < left * (tried - pace.tried)


def slides(flow: Any, t: Any, u: Array, h: Any) -> np.ndarray:
    """Whether a jump of the velocity within an Euler step drives the state back.

    The jump J is found by bisection. The path slides along the kink where the
    velocities v and v + J on its two sides both point to it [1]_,

        <v, J> < 0 < <v + J, J>;

    elsewhere it only crosses. One bool, or (b,) for a flow with a product of each
    member, for ``t`` and ``h`` of shape (b, 1) or common ones.

    References
    ----------
    .. [1] A. F. Filippov, Differential Equations with Discontinuous Righthand Sides,
       Kluwer 1988, doi:10.1007/978-94-015-7793-9.
    """
    no = np.zeros((), dtype=bool)
    if not hasattr(flow, "velocity") or hasattr(flow, "draw"):
        return no
    try:
        with np.errstate(all="ignore"), without_graph(u):
            return jump(flow, t, u, h)
    except (ArithmeticError, ValueError, RuntimeError, TypeError):
        # Beyond this state the velocity may not be defined.
        return no


def jump(flow: Any, t: Any, u: Array, h: Any) -> np.ndarray:
    """``slides`` where nothing fails."""
    product = products(flow, u)

    def size(e: Array) -> np.ndarray:
        found: np.ndarray = np.sqrt(product(e, e))
        return found

    a, b = u, u + h * flow.velocity(t, u)
    va, vb = flow.velocity(t, a), flow.velocity(t, b)
    eps = float(np.finfo(dtype_name(u)).eps)
    length, first = size(b - a), size(vb - va)
    far = length > 256.0 * eps * size(u)
    for _ in range(HALVINGS):
        m = 0.5 * (a + b)
        vm = flow.velocity(t, m)
        left = size(vm - va) >= size(vb - vm)
        a, va = chosen(left, a, m), chosen(left, va, vm)
        b, vb = chosen(left, m, b), chosen(left, vm, vb)
    J = vb - va
    # A smooth velocity differs in proportion to the distance.
    shrunk = (size(b - a) / length) ** 0.25
    found: np.ndarray = far & (size(J) > shrunk * first)
    return found & (product(va, J) < 0.0) & (product(vb, J) > 0.0)


def products(flow: Any, u: Array) -> Callable[[Array, Array], np.ndarray]:
    """The product of two displacements: the flow's where there is one."""
    try:
        inner = flow.inner
    except (AttributeError, TypeError):
        return lambda a, b: np.asarray(to_numpy(namespace(a).sum(a * b)))
    return lambda a, b: np.asarray(to_numpy(inner(u, a, b)))


def chosen(mask: np.ndarray, a: Array, b: Array) -> Array:
    """``a`` where the mask holds, else ``b``, for one state or each member."""
    if mask.ndim == 0:
        return a if mask else b
    wide = mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim))
    return namespace(a).where(array_like(wide, a) != 0, a, b)
