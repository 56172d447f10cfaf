"""The interval of a run and the times that it saves."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from flows.control import count_steps, positive

__all__ = ["check_interval", "check_room", "memory_left", "save_times"]

Array = Any


def check_interval(t: Any, until: Any) -> tuple[float, float]:
    """The pair (t0, t1)."""
    try:
        t0, t1 = (float(s) for s in t)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`t` must be a pair (t0, t1) of numbers, got {t!r}."
        ) from error
    if not math.isfinite(t0) or math.isnan(t1):
        raise ValueError(f"`t` must be finite numbers, got ({t0}, {t1}).")
    if t1 < t0:
        raise ValueError(
            f"`t` must have t0 <= t1, got ({t0:g}, {t1:g}): gradient flows are "
            "ill-posed backwards in time."
        )
    if math.isfinite(t1) and math.isinf(t1 - t0):
        raise ValueError(f"`t` = ({t0:g}, {t1:g}) spans more than a float can hold.")
    if math.isinf(t1) and until is None:
        raise ValueError("t1 = inf needs `until`, for instance until=fl.Steady(1e-8).")
    return t0, t1


def check_room(count: int, u: Array, room: float) -> None:
    """Refuse to keep ``count`` states that do not fit into ``room`` bytes."""
    needed = count * float(getattr(u, "nbytes", 0))
    if needed > room:
        raise ValueError(
            f"Saving {count} states needs {needed / 1e9:.3g} GB, more than the "
            f"{room / 1e9:.3g} GB at hand; give `save_at`, a larger spacing or an "
            "array of times."
        )


def save_times(
    save_at: Any, t0: float, t1: float, u: Array, room: float
) -> tuple[np.ndarray, bool]:
    """Times where the loop must land, and whether every step is saved."""
    if save_at is None:
        return np.array([t1]), True
    if np.ndim(save_at) == 0:
        spacing = positive("save_at", save_at)
        if math.isinf(t1):
            raise ValueError("`save_at` must be an array when t1 = inf.")
        if spacing < math.ulp(max(abs(t0), abs(t1))) and t1 > t0:
            raise ValueError(
                f"`save_at` = {spacing:g} is below the spacing of floating-point "
                f"numbers at t = {t1:g}; take a larger one."
            )
        n = count_steps(t1 - t0, spacing) if t1 > t0 else 0
        check_room(n + 1, u, room)
        return np.append(t0 + spacing * np.arange(n), t1), False
    try:
        times = np.array(save_at, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`save_at` must be a number or an array of times, got {save_at!r}."
        ) from error
    if times.ndim != 1 or times.size == 0:
        raise ValueError("`save_at` must be a number or a non-empty array of times.")
    check_room(times.size, u, room)
    wrong = ~((times >= t0) & (times <= t1))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"`save_at[{i}]` = {times[i]:g} is outside t = ({t0:g}, {t1:g})."
        )
    falls = np.diff(times) <= 0
    if falls.any():
        i = int(np.argmax(falls)) + 1
        raise ValueError(
            f"`save_at` must increase strictly; `save_at[{i}]` = {times[i]:g} does not."
        )
    return times, False


def memory_left() -> float:
    """Half of the machine's memory in bytes; inf where it is unknown."""
    try:
        return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf
