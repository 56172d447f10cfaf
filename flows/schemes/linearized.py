"""What the schemes that linearize the velocity share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.linear.krylov import length

if TYPE_CHECKING:
    from flows.flow import Flow

__all__ = ["largest", "spacing", "time_slope"]

Array = Any


def spacing(u: Array) -> float:
    """Distance from 1 to the next number of the dtype of ``u``."""
    return float(np.finfo(dtype_name(u)).eps)


def largest(arrays: list[Array]) -> Array:
    """The largest of the lengths (.., 1) of several vectors."""
    xp = namespace(arrays[0])
    return xp.max(length(xp.stack(arrays)), axis=0)


def time_slope(
    flow: Flow, t: Any, u: Array, h: Any, slope: Array
) -> tuple[Array | None, int]:
    """Derivative of the velocity in t at (t, u), and the calls that it took.

    None where the velocity at t and a little later are the same to the last bit, as
    those of an autonomous flow are: no flow needs to say whether it depends on time.
    The difference looks ahead, because t may be the first time at which the flow is
    defined, and has order 2. Its step is h eps^(1/6), about h/400: h^2 times its error,
    which is what enters a step, is then h times some rounding of the velocity, and
    2e-6 h^4, which is under the error of a scheme of order 4 until that is rounding.
    """
    part = spacing(u) ** (1.0 / 6.0)
    first = flow.velocity(t + part * h, u)
    xp = namespace(u)
    # Inside autograd a derivative that is 0 here need not be 0 next to this state.
    recorded = getattr(first, "requires_grad", False)
    if not recorded and bool(xp.all(first == slope)):
        return None, 1
    second = flow.velocity(t + 2.0 * part * h, u)
    # The times as they were rounded.
    a, b = (t + part * h) - t, (t + 2.0 * part * h) - t
    near, far = (first - slope) / a, (second - slope) / b
    return near + (near - far) * (a / (b - a)), 2
