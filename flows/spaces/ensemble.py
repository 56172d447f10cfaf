"""Very many points under one formula: explicit steps of every point in compiled code.

The source of a Runge-Kutta step is written out for the formula, the dimension and the
tableau; each point takes its own steps, on all cores. The plain path of the loop is
the reference: same formulas, same controller, equal to rounding with fixed steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import is_torch
from flows.spaces.ensemble_source import ensemble_source
from flows.symbolic.compiled import generated_module

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ensemble"]

Array = Any

# Compiling takes seconds: fewer points than this are done before it is.
FEWEST = 512
# The step is written out; its length grows with coordinates times stages.
MOST_COORDINATES = 16


def ensemble(
    functional: Any, scheme: Any, dt: Any, t0: float, t1: float, u: Array
) -> tuple[Array, Mapping[str, int]] | None:
    """States (b, n) at ``t1`` by compiled steps from ``t0``; None where there are none.

    Parameters
    ----------
    functional : Energy
        Potentials with formulas, n at most ``MOST_COORDINATES``.
    scheme : Scheme
        An explicit Runge-Kutta scheme; with ``Adaptive``, of an estimate that is
        linear in its slopes.
    dt : float or Adaptive
    u : (b, n) array
        NumPy; b at least ``FEWEST``.

    Returns
    -------
    u : (b, n) array
    stats : mapping
        ``velocity_calls``; with ``Adaptive`` also ``steps`` and ``rejected``. All are
        the most of any point.
    """
    if is_torch(u) or u.ndim != 2 or u.dtype != np.float64:
        return None
    b, n = u.shape
    table = getattr(scheme, "tableau", None)
    if table is None or b < FEWEST or n > MOST_COORDINATES:
        return None
    fixed = isinstance(dt, float)
    # A step or an estimate of the scheme's own (DOP853) exists in Python only.
    methods = [type(scheme).step] + ([] if fixed else [type(scheme).estimate])
    if any(not m.__qualname__.startswith("RungeKutta.") for m in methods):
        return None
    if not fixed and not (table.error and type(dt.controller).__name__ == "PI"):
        return None
    lock = parallel_lock()
    source = None if lock is None else ensemble_source(functional, table, n)
    if lock is None or source is None:
        return None
    text, parameters = source
    module = generated_module(text)
    out, p = np.empty_like(u), np.array(parameters)
    stats: Mapping[str, int] | None
    with lock, np.errstate(all="ignore"):
        if fixed:
            stats = run_fixed(module, table, dt, t0, t1, u, out, p)
        else:
            stats = run_adaptive(module, scheme, dt, t0, t1, u, out, p)
    return (out, stats) if stats is not None and np.isfinite(out).all() else None


def run_fixed(
    module: Any,
    table: Any,
    h: float,
    t0: float,
    t1: float,
    u: Array,
    out: Array,
    p: Any,
) -> Mapping[str, int]:
    """Equal steps ``h`` of all points."""
    count = round((t1 - t0) / h)
    module.fixed(u, out, t0, h, count, p)
    calls = count * (len(table.stages) + (not table.fsal)) + table.fsal
    return {"velocity_calls": int(calls)}


def run_adaptive(
    module: Any,
    scheme: Any,
    control: Any,
    t0: float,
    t1: float,
    u: Array,
    out: Array,
    p: Any,
) -> Mapping[str, int] | None:
    """Steps of its own for each point; None when one of them fails."""
    counts = np.zeros((len(u), 4), dtype=np.int64)
    pi = control.controller
    limits = (
        control.rtol,
        control.atol,
        control.first or 0.0,
        control.largest or math.inf,
        float(control.max_steps),
    )
    gains = (pi.integral, pi.proportional, pi.safety, pi.smallest, pi.largest)
    orders = (float(scheme.order), float(scheme.error_order))
    module.adaptive(u, out, counts, t0, t1, p, orders, limits, gains)
    if counts[:, 3].any():
        return None
    return {
        "steps": int(counts[:, 0].max()),
        "rejected": int(counts[:, 1].max()),
        "velocity_calls": int(counts[:, 2].max()),
    }


def parallel_lock() -> Any:
    """The lock around parallel kernels; None where there is no numba, or in a fork."""
    try:
        import numba

        from flows._philox import PARALLEL_LOCK
    except Exception:
        # numba that is too old for the installed NumPy or Python fails in many ways.
        return None
    usable = not numba.config.DISABLE_JIT and not PARALLEL_LOCK.forked
    return PARALLEL_LOCK if usable else None
