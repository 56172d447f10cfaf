"""How a run ends, and whether the members of a batch have steps of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows.arrays import is_array, rounding, to_numpy
from flows.control import Adaptive, own_norm
from flows.loop.members import RUNNING, Members, Pool
from flows.loop.runner import State
from flows.loop.stopping import Event

__all__ = ["alone", "check_until", "decide", "together"]

Array = Any


def decide(
    flow: Any,
    dt: float | Adaptive,
    until: Any,
    state: State,
    every: bool,
    t1: float,
    allowed: bool = True,
) -> tuple[Event | None, bool]:
    """The event of a run, and whether the members have their own steps.

    They have with ``Adaptive`` and a flow that has a norm of each member and treats
    each by itself, where save times are given, unless ``until`` speaks of all members
    together. With every step saved a rule for each member gives them their own ends,
    but one step. Without ``allowed`` they share all.
    """
    able = allowed and isinstance(dt, Adaptive) and by_itself(flow, state)
    event = check_until(until, flow, able and not every)
    if event is None:
        return None, able and not every
    if math.isinf(t1) and math.isinf(event.most):
        raise ValueError(
            "`t` ends at inf, but the event never ends the run: give it a `limit`, or "
            "a finite t1."
        )
    if not able:
        return event, False
    u = flow.decode(state.u) if hasattr(flow, "decode") else state.u
    value = event.when(state.t, u)
    return event, is_array(value) and tuple(value.shape) == (state.u.shape[0],)


def by_itself(flow: Any, state: State) -> bool:
    """Whether the flow has a norm of each member and takes some without the others."""
    u, t = state.u, state.t
    if any(hasattr(flow, name) for name in ("noise", "draw")):
        return False
    with np.errstate(all="ignore"):
        try:
            if not own_norm(flow, u[-2:]):
                return False
            if not hasattr(flow, "velocity") or u.shape[0] == 1:
                return True
            one = to_numpy(flow.velocity(t, u[-1:]))
        except (ValueError, RuntimeError, IndexError, TypeError):
            # Arrays of the user's with one entry for each member do not fit some.
            return False
        whole = to_numpy(flow.velocity(t, u))[-1:]
    if one.shape != whole.shape:
        return False
    near = np.abs(one - whole) <= 1e3 * rounding(one, whole, u)
    return bool(np.all(near | ~np.isfinite(whole)))


def check_until(until: Any, flow: Any, own: bool = False) -> Event | None:
    """The stopping rule, bound to the flow where it asks for one.

    ``own`` asks it for one value for each member.
    """
    if isinstance(until, type):
        raise TypeError(
            f"`until` is the class {until.__name__}; write `{until.__name__}()`."
        )
    if until is None or until is False:
        return None
    event = until if isinstance(until, Event) else None
    when = until if event is None else event.when
    if hasattr(when, "bind"):
        when = when.bind(flow, own)
    if not callable(when):
        raise TypeError(
            f"`until` must be callable(t, u), Event(...) or Steady(), got {until!r}."
        )
    if event is None:
        return Event(when)
    return Event(when, event.jump, event.direction, event.limit)


def alone(state: State) -> State:
    """A state without members of their own, for a run that steps all together."""
    if state.members is None:
        return state
    return State(t=state.t, u=state.u, step=state.step, origin=state.t)


def together(state: State, t0: float) -> State:
    """The last state of a run that came to its end as the first of the next one.

    Members that had stopped start again at ``t0`` with the others.
    """
    members = state.members
    if members is None:
        return state._replace(origin=t0, done=0)
    count = len(members.t)
    again = Members.new(t0, count)
    if (members.status != RUNNING).any():
        # What the schemes remember belongs to another time.
        memory = (Pool(np.arange(count), ()),)
        return state._replace(members=again, memory=memory, origin=t0, done=0)
    again = again._replace(h=members.h, past=members.past, refused=members.refused)
    return state._replace(members=again, origin=t0, done=0)
