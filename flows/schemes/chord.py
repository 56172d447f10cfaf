"""Implicit steps v = w + b velocity(t, v) with a matrix from an earlier step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from flows.arrays import is_torch, rms
from flows.flow import offers
from flows.linear import NewtonFailure, shifted
from flows.schemes.linearized import spacing

if TYPE_CHECKING:
    from flows.flow import Flow, Memory
    from flows.linear import Shifted

__all__ = ["chord", "has_chord"]

Array = Any

MOST_ITERATIONS = 6
# The error of the iteration in units of the local error.
FRACTION = 0.05
# Quotients b / b' for which the matrix of b' serves b.
NEAR = (0.7, 1.4)
# Newton's method for less unknowns costs little in the resolvent.
FEWEST = 32


class Linear(NamedTuple):
    """The system I - b J(t, u), with J and what it was made from."""

    t: float
    u: Array
    b: float
    J: Any
    solver: Shifted


# The last system of each flow: only a way not to factor again, since the memory of the
# scheme has the (t, u, b) of which it is made.
SYSTEMS: WeakKeyDictionary[Any, Linear] = WeakKeyDictionary()


def system(flow: Flow, t: float, u: Array, b: float) -> Linear:
    """The system with the matrix I - b J(t, u)."""
    last = SYSTEMS.get(flow)
    if last is not None and not (last.t == t and last.u is u):
        last = None
    if last is not None and last.b == b:
        return last
    J = flow.jacobian(t, u) if last is None else last.J
    made = SYSTEMS[flow] = Linear(t, u, b, J, shifted(J, b, u))
    return made


def chord(
    flow: Flow, t: float, w: Array, b: float, guess: Array, share: float, memory: Memory
) -> tuple[Array | None, Memory, dict[str, int]]:
    """v with v = w + b velocity(t, v) by Newton's method with a constant matrix.

    The matrix is I - b' J at an earlier point as long as the iteration converges with
    it; a correction is scaled by 2/(1 + b/b') [1]. The iteration ends when its error is
    5 percent of the local error ``share`` |v - guess|, or rounding.

    Parameters
    ----------
    flow : Flow
        With ``velocity``, ``jacobian`` and ``linearizable``.
    t, b : float
    w, guess : array (n,)
    share : float
        Local error of the step in units of |v - guess|.
    memory : (t', u', b') or ()
        Where the matrix was taken.

    Returns
    -------
    v : array or None
        None where the iteration has failed, also with a new matrix.
    memory : tuple
    work : dict
        ``velocity_calls`` and ``jacobian_calls``.

    References
    ----------
    [1] P. N. Brown, G. D. Byrne, A. C. Hindmarsh, VODE: a variable-coefficient ODE
    solver, SIAM J. Sci. Stat. Comput. 10 (1989) 1038-1051, doi:10.1137/0910062.
    """
    work = {"velocity_calls": 0, "jacobian_calls": 0}
    if memory:
        place = (memory[0], memory[1], memory[2])
        if not NEAR[0] < b / place[2] < NEAR[1]:
            place = (place[0], place[1], b)
        v = attempt(flow, t, w, b, guess, share, place, work)
        if v is not None:
            return v, place, work
    place = (t, guess, b)
    work["jacobian_calls"] += 1
    return attempt(flow, t, w, b, guess, share, place, work), place, work


def attempt(
    flow: Flow,
    t: float,
    w: Array,
    b: float,
    guess: Array,
    share: float,
    place: tuple[float, Array, float],
    work: dict[str, int],
) -> Array | None:
    """The iteration with the system at ``place``; None where it converges slowly."""
    try:
        linear = system(flow, *place)
    except (np.linalg.LinAlgError, NewtonFailure):
        return None
    scale = 2.0 / (1.0 + b / linear.b)
    v, first, before = guess, 0.0, 0.0
    floor = 10.0 * spacing(v) * rms(v)
    for k in range(MOST_ITERATIONS):
        slope = flow.velocity(t, v)
        work["velocity_calls"] += 1
        move = linear.solver.solve(w + b * slope - v)
        if scale != 1.0:
            move = scale * move
        size = rms(move)
        if not math.isfinite(size):
            return None
        v = v + move
        if size <= floor:
            return v
        if k:
            rate = size / before
            if rate >= 0.5:
                return None
            # The first move is |v - guess| but for what the others bring.
            if size * rate / (1.0 - rate) <= max(FRACTION * share * first, floor):
                return v
        else:
            first = size
        before = size
    return None


def has_chord(flow: Any, u: Array) -> bool:
    """Whether ``chord`` may take the steps of this flow from a state like ``u``."""
    return (
        u.ndim == 1
        and u.shape[0] >= FEWEST
        and not is_torch(u)
        and not hasattr(flow, "implicit_root")
        and offers(flow, "linearizable")
        and flow.linearizable(u)
    )
