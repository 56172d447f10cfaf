"""Steps of points under formulas, in compiled code.

The source of a Runge-Kutta or Rosenbrock step is written out for the formula, the
dimension and the tableau; each point takes its own steps, on all cores. The plain path
of the loop is the reference: same formulas, same controller, equal to rounding with
fixed steps.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import is_torch
from flows.spaces.compiled_source import LANES, compiled_source
from flows.symbolic.compiled import generated_module

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FEWEST", "compiled_steps", "obstacle"]

Array = Any

# Compiling takes seconds: fewer points than this are done before it is.
FEWEST = 512
# The step is written out; its length grows with coordinates times stages.
MOST_COORDINATES = 16


def obstacle(functional: Any, scheme: Any, dt: Any, u: Array) -> str | None:
    """Why there are no compiled steps; None where there are.

    Parameters
    ----------
    functional : Energy
        Potentials.
    scheme : Scheme
    dt : float or Adaptive
    u : (n,) or (b, n) array
    """
    if is_torch(u) or u.dtype != np.float64:
        return "the states must be NumPy arrays of float64"
    n = u.shape[-1]
    if n > MOST_COORDINATES:
        return f"points may have up to {MOST_COORDINATES} coordinates, not {n}"
    # A step or an estimate of the scheme's own (DOP853) exists in Python only.
    step = type(scheme).step.__qualname__
    explicit, fixed = step == "RungeKutta.step", isinstance(dt, float)
    if explicit and not fixed:
        estimate = type(scheme).estimate.__qualname__
        explicit = bool(scheme.tableau.error) and estimate == "RungeKutta.estimate"
    if not explicit and step != "Rosenbrock.step":
        kind = "fixed" if fixed else "adaptive"
        return f"{scheme!r} has none with {kind} steps; take Rosenbrock() or Tsit5()"
    if not fixed and type(dt.controller).__name__ != "PI":
        return f"steps are controlled by PI(), not by {dt.controller!r}"
    if parallel_lock() is None:
        return "they need numba, which is not installed or does not work here"
    if kernels(functional, scheme.tableau, n, *spread(scheme, u)) is None:
        return "every potential must be a formula whose parameters are numbers"
    return None


def compiled_steps(
    functional: Any, scheme: Any, dt: Any, t0: float, t1: float, u: Array
) -> tuple[Array, Mapping[str, int]] | None:
    """States at ``t1`` by steps from ``t0``, where ``obstacle`` is None.

    Returns
    -------
    u : (n,) or (b, n) array
    stats : mapping
        ``velocity_calls``; with ``Adaptive`` also ``steps`` and ``rejected``; with
        ``Rosenbrock`` also ``jacobian_calls``. All are the most of any point.

    None instead of the pair when a point fails.
    """
    points = u.reshape(-1, u.shape[-1])
    made = kernels(functional, scheme.tableau, u.shape[-1], *spread(scheme, u))
    if made is None:
        return None
    module, p = made
    out = np.empty_like(points)
    run = run_fixed if isinstance(dt, float) else run_adaptive
    with parallel_lock(), np.errstate(all="ignore"):
        stats = run(module, scheme, dt, t0, t1, points, out, p)
    if stats is None or not np.isfinite(out).all():
        return None
    return out.reshape(u.shape), stats


def spread(scheme: Any, u: Array) -> tuple[int, bool]:
    """Points stepped side by side, and whether threads share them.

    1 for systems, and for less than ``LANES``.
    """
    linear = hasattr(scheme.tableau, "couplings")
    few = u.ndim == 1 or u.shape[0] < LANES
    return (1 if linear or few else LANES), u.ndim > 1


@lru_cache(maxsize=64)
def kernels(
    functional: Any, table: Any, n: int, lanes: int, threads: bool
) -> tuple[Any, np.ndarray] | None:
    """The module with ``fixed`` and ``adaptive``, and the numbers they take."""
    found = compiled_source(functional, table, n, lanes, threads)
    return None if found is None else (generated_module(found[0]), np.array(found[1]))


def run_fixed(
    module: Any,
    scheme: Any,
    h: float,
    t0: float,
    t1: float,
    u: Array,
    out: Array,
    p: Any,
) -> dict[str, int]:
    """Equal steps ``h`` of all points."""
    count = round((t1 - t0) / h)
    module.fixed(u, out, t0, h, count, p)
    calls = count * (module.stages + (not module.fsal)) + module.fsal
    return counted(scheme, count, int(calls))


def counted(scheme: Any, attempts: int, calls: int) -> dict[str, int]:
    """Counts of the calls of a run."""
    counts = {"velocity_calls": calls}
    if hasattr(scheme.tableau, "couplings"):
        counts["jacobian_calls"] = attempts
    return counts


def run_adaptive(
    module: Any,
    scheme: Any,
    control: Any,
    t0: float,
    t1: float,
    u: Array,
    out: Array,
    p: Any,
) -> dict[str, int] | None:
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
    steps, rejected, calls = (int(counts[:, j].max()) for j in range(3))
    attempts = int((counts[:, 0] + counts[:, 1]).max())
    return {"steps": steps, "rejected": rejected, **counted(scheme, attempts, calls)}


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
