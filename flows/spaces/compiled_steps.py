"""Steps of points under formulas, or gradients written in NumPy, in compiled code.

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
from flows.spaces.compiled_functions import (
    compiled_gradient,
    gradient_obstacle,
    is_function,
)
from flows.spaces.compiled_source import LANES, compiled_source, gradient_source
from flows.spaces.jacobians import LARGEST_DENSE, Dense
from flows.spaces.patterns import Banded
from flows.symbolic.compiled import generated_module

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FEWEST", "compiled_steps", "obstacle"]

Array = Any

# Compiling takes seconds: fewer points than this are done before it is.
FEWEST = 512
# Points of a thread whose first steps are found ahead.
MOST_AT_ONCE = 4096
# The step of formulas is written out; its length grows with coordinates times stages.
MOST_COORDINATES = 16


def obstacle(
    functional: Any, scheme: Any, dt: Any, t: float, u: Array, structure: Any = None
) -> str | None:
    """Why there are no compiled steps; None where there are.

    Parameters
    ----------
    functional : Energy
        Potentials.
    scheme : Scheme
    dt : float or Adaptive
    t : float
        Time of the start.
    u : (n,) or (b, n) array
    structure : Structure, optional
        How Hess V is held, for functions.
    """
    if is_torch(u) or u.dtype != np.float64:
        return "the states must be NumPy arrays of float64"
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
    n = u.shape[-1]
    if is_function(functional):
        if not explicit and half_width(structure, n) is None:
            return (
                "Hess V of a function is held in bands, or in full up to "
                f"{LARGEST_DENSE} coordinates; give jacobian=fl.Banded(k, k), or take "
                "Tsit5()"
            )
        return gradient_obstacle(functional, t, u.reshape(-1, n)[0])
    if n > MOST_COORDINATES:
        return (
            f"points may have up to {MOST_COORDINATES} coordinates under formulas, not "
            f"{n}; fl.Potential(V, gradient=) of functions takes any number"
        )
    if kernels(functional, scheme.tableau, u.shape, structure) is None:
        return (
            "every potential must be a formula whose parameters are numbers, or a "
            "function with `gradient=`"
        )
    return None


def half_width(structure: Any, n: int) -> int | None:
    """Diagonals of Hess V beside the main one; None where it has no bands."""
    if isinstance(structure, Banded):
        return max(structure.lower, structure.upper)
    dense = structure is None or isinstance(structure, Dense)
    return n - 1 if dense and n <= LARGEST_DENSE else None


def compiled_steps(
    functional: Any,
    scheme: Any,
    dt: Any,
    t0: float,
    t1: float,
    u: Array,
    structure: Any = None,
) -> tuple[Array, Mapping[str, Any]] | None:
    """States at ``t1`` by steps from ``t0``, where ``obstacle`` is None.

    Returns
    -------
    u : (n,) or (b, n) array
    stats : mapping
        ``velocity_calls``; with ``Adaptive`` also ``steps`` and ``rejected``, (b,) of
        the points; with ``Rosenbrock`` also ``jacobian_calls``. The calls are the most
        of any point.

    None instead of the pair when a point fails.
    """
    made = kernels(functional, scheme.tableau, u.shape, structure)
    if made is None:
        return None
    module, p = made
    points = np.array(u).reshape(-1, u.shape[-1])
    out = np.empty_like(points)
    run = run_fixed if isinstance(dt, float) else run_adaptive
    with parallel_lock(), np.errstate(all="ignore"):
        stats = run(module, scheme, dt, t0, t1, points, out, p)
    if stats is None or not np.isfinite(out).all():
        return None
    return out.reshape(u.shape), stats


@lru_cache(maxsize=64)
def kernels(
    functional: Any, table: Any, shape: tuple[int, ...], structure: Any
) -> tuple[Any, Any] | None:
    """The module with ``fixed`` and ``adaptive``, and the p that they take."""
    n, linear = shape[-1], hasattr(table, "couplings")
    if is_function(functional):
        width = (half_width(structure, n) or 0) if linear else 0
        text = gradient_source(table, n, width, functional.depends_on_time)
        return of_pointers(generated_module(text)), compiled_gradient(functional)
    few = len(shape) == 1 or shape[0] < LANES
    lanes = 1 if linear or few else LANES
    found = compiled_source(functional, table, n, lanes, threads=len(shape) > 1)
    return None if found is None else (generated_module(found[0]), np.array(found[1]))


def of_pointers(module: Any) -> Any:
    """The module with kernels for the pointer to any slope: they compile once."""
    import numba

    slope = numba.void(numba.f8[::1], numba.f8, numba.f8[::1])
    points, pair = numba.f8[:, ::1], numba.types.UniTuple(numba.f8, 2)
    five, counts = numba.types.UniTuple(numba.f8, 5), numba.i8[:, ::1]
    pointer = numba.types.FunctionType(slope)
    numbers = numba.f8, numba.f8
    if module.fixed._can_compile:
        module.fixed.compile(numba.void(points, points, *numbers, numba.i8, pointer))
        module.adaptive.compile(
            numba.void(
                points, points, counts, numba.i8, *numbers, pointer, pair, five, five
            )
        )
        module.fixed.disable_compile()
        module.adaptive.disable_compile()
    return module


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
) -> dict[str, Any] | None:
    """Steps of its own for each point; None when one of them fails."""
    counts = np.empty((4, len(u)), dtype=np.int64)
    pi = control.controller
    first, largest = control.first or 0.0, control.largest or math.inf
    limits = tuple(
        map(float, (control.rtol, control.atol, first, largest, control.max_steps))
    )
    gains = (pi.integral, pi.proportional, pi.safety, pi.smallest, pi.largest)
    orders = (float(scheme.order), float(scheme.error_order))
    module.adaptive(u, out, counts, portion(len(u)), t0, t1, p, orders, limits, gains)
    steps, rejected, calls, failed = counts
    if failed.any():
        return None
    attempts = int((steps + rejected).max())
    return {
        "steps": steps,
        "rejected": rejected,
        **counted(scheme, attempts, int(calls.max())),
    }


def portion(count: int) -> int:
    """How many of ``count`` points a thread takes at once: few, equal portions."""
    import numba

    threads = int(numba.get_num_threads())
    portions = threads * math.ceil(count / (threads * MOST_AT_ONCE))
    return math.ceil(count / portions)


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
