"""The checks at the door: every argument of ``solve`` before any work is done."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from flows.arrays import (
    all_finite,
    device_of,
    dtype_name,
    first_nonfinite,
    is_array,
    is_torch,
    namespace,
    to_numpy,
)
from flows.control import Adaptive, count_steps, positive
from flows.energies import Energy
from flows.loop.ends import together
from flows.loop.runner import State
from flows.loop.slopes import check_slopes
from flows.random import Stream, as_seed
from flows.schemes import require, scheme_named
from flows.solution import Solution, nan_energy
from flows.spaces.base import admit_array

__all__ = [
    "check_flow",
    "check_hooks",
    "check_seed",
    "check_stability",
    "check_step",
    "choose",
    "first_call",
    "same_flow",
    "start",
]

Array = Any


def check_flow(flow: Any) -> None:
    """Refuse what is not a flow, saying how to make one."""
    if isinstance(flow, Energy):
        raise TypeError(
            f"`flow` is the energy {flow!r}; choose a space: "
            "`fl.Euclidean().flow(energy)` or `fl.Grid((-5, 5, 200)).flow(energy)`."
        )
    if any(hasattr(flow, name) for name in ("velocity", "prox", "parts", "exact")):
        return
    raise TypeError(
        f"`flow` must be a flow, made by `space.flow(energy)`; got "
        f"{type(flow).__name__}."
    )


def choose(flow: Any, scheme: Any, dt: Any) -> tuple[Any, float | Adaptive, str]:
    """Scheme and step: the user's, else the flow's, with a note of what was chosen."""
    note = []
    chosen: Any = None
    if scheme is None or dt is None:
        chosen = flow.default() if hasattr(flow, "default") else None
    if scheme is None:
        if chosen is None:
            raise TypeError("`scheme` is needed: this flow has no default().")
        scheme = scheme_named(chosen[0])
        note.append(f"scheme {scheme!r}")
    if isinstance(scheme, type):
        raise TypeError(
            f"`scheme` is the class {scheme.__name__}; write `{scheme.__name__}()`."
        )
    if not hasattr(scheme, "step"):
        raise TypeError(f"`scheme` must be a scheme such as fl.RK4(), got {scheme!r}.")
    require(scheme, flow)
    if dt is None:
        estimate = scheme.error_order is not None and not scheme.draws_noise(flow)
        default = chosen[1] if chosen is not None else None
        if default is None and not estimate:
            raise ValueError(f"`dt` is needed with {scheme!r}: a positive number.")
        dt = Adaptive() if estimate and (default is None or not note) else default
        note.append(f"dt {dt!r}")
    if isinstance(dt, Adaptive):
        if scheme.draws_noise(flow) or hasattr(flow, "draw"):
            raise ValueError(
                "`dt` must be a number for a flow with noise; Adaptive would bias it."
            )
        if scheme.error_order is None:
            doubled = not (scheme.multistep or scheme.order == sys.maxsize)
            raise ValueError(
                f"{scheme!r} has no error estimate for Adaptive; give a number `dt`, "
                "or use one that has: Tsit5(), DormandPrince(), TRBDF2(), BDF2()"
                + (f", StepDoubling({scheme!r})." if doubled else ".")
            )
        return scheme, dt, ", ".join(note)
    return scheme, positive("dt", dt), ", ".join(note)


def check_seed(
    flow: Any, scheme: Any, rng: Any, previous: Solution | None
) -> int | None:
    """The seed of the run, if it has one."""
    if rng is None and previous is not None:
        rng = previous.counters.get("seed")
    if rng is not None:
        return int(as_seed(rng))
    if scheme.draws_noise(flow) or hasattr(flow, "draw"):
        raise ValueError(
            f"{scheme!r} draws random numbers: give `rng`, an integer seed or a NumPy "
            "Generator, so that the run can be repeated."
        )
    return None


def start(flow: Any, scheme: Any, u0: Any, t0: float, seed: int | None) -> State:
    """The first state of the run, in the flow's chart."""
    if isinstance(u0, Solution):
        return continued(u0, scheme, flow, t0)
    if flow.space is None:
        u = admit_array(u0)
    else:
        stream = None if seed is None else Stream(seed, "initial")
        u = flow.space.admit(u0, stream)
    return State(t=t0, u=charted(flow, u), origin=t0)


def charted(flow: Any, u: Array) -> Array:
    """``u`` in the flow's chart, not to be written to."""
    z = flow.encode(u) if hasattr(flow, "encode") else u
    if not is_torch(z):
        z.flags.writeable = False
    return z


def continued(previous: Solution, scheme: Any, flow: Any, t0: float) -> State:
    """The last state of an earlier run, with its history when the run is the same.

    The random stream goes on where it stopped, whatever flow and scheme are.
    """
    end = previous.final
    t_end = float(previous.t[-1]) if end is None else end.t
    if t0 != t_end:
        raise ValueError(
            f"The solution ends at t = {t_end!r}; continue it with "
            f"t = ({t_end!r}, ...)."
        )
    check_fits(flow, previous)
    old = previous.flow
    if end is None:
        u = admit_array(previous.u[-1])
    elif end.members is not None and not previous.ok:
        # Members that were interrupted are ahead of the time that all have reached.
        u = admit_array(previous.u[-1])
    elif repr(scheme) == repr(previous.scheme) and same_flow(flow, old, t0, end.u):
        return together(State(*end), t0)
    else:
        u = admit_array(old.decode(end.u) if hasattr(old, "decode") else end.u)
    return State(t=t0, u=charted(flow, u), step=previous.step, origin=t0)


def check_fits(flow: Any, previous: Solution) -> None:
    """A state of another space is no state here, even where the shapes agree."""
    here, there = flow.space, previous.space
    if here is not None and there is not None and repr(here) != repr(there):
        raise TypeError(
            f"The solution lives in {there!r}, the flow in {here!r}; start from "
            "`sol.measure()`, or from the bare array `sol.u[-1]`."
        )


def same_flow(flow: Any, other: Any, t: float, z: Array) -> bool:
    """Whether two flows have the same text and, bit for bit, the same velocity."""
    if flow is other:
        return True
    if type(flow) is not type(other) or repr(flow) != repr(other):
        return False
    if not hasattr(flow, "velocity"):
        return False
    with np.errstate(all="ignore"):
        pair = [to_numpy(f.velocity(t, z)) for f in (flow, other)]
    return pair[0].tobytes() == pair[1].tobytes()


def first_call(flow: Any, t: float, z: Array, finite: bool = True) -> None:
    """Call the user's functions once: None, wrong shape, dtype, writing, NaN.

    ``z`` is the state in the flow's chart. The velocity need not be ``finite`` for a
    scheme that never uses it: a Dirac mass has no velocity under diffusion, but it has
    minimizing movements.

    Raises
    ------
    TypeError, ValueError
    """
    functional, space = getattr(flow, "functional", None), flow.space
    u = flow.decode(z) if hasattr(flow, "decode") else z
    if functional is not None and hasattr(space, "points"):
        x = space.points(u)
        for term in functional.terms:
            if term.kind in ("potential", "interaction"):
                term.function.probe(x, t, derivatives=space.probed)
            else:
                term.function.probe(namespace(x).ones_like(x[..., 0]))
    if hasattr(flow, "velocity"):
        check_velocity(flow, t, z, finite)
    if hasattr(flow, "admissible"):
        check_admissible(flow, z)
    if hasattr(flow, "energy"):
        with np.errstate(all="ignore"):
            value = flow.energy(t, u)
        if value is None:
            raise TypeError("`energy` returned None; did you forget `return`?")
        if np.isnan(to_numpy(value)).any():
            raise ValueError(nan_energy(flow, t, u))
    check_slopes(flow, t, z)


def check_velocity(flow: Any, t: float, u: Array, finite: bool) -> None:
    """The velocity at the start has the shape and dtype of the state and is finite."""
    version = u._version if is_torch(u) and not u.is_inference() else None
    try:
        with np.errstate(all="ignore"):
            v = flow.velocity(t, u)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ValueError(
            "`velocity` writes into its argument; return a new array instead."
        ) from error
    if v is None:
        raise TypeError("`velocity` returned None; did you forget `return`?")
    if version is not None and u._version != version:
        raise ValueError(
            "`velocity` writes into its argument; return a new tensor instead."
        )
    if not is_array(v) or is_torch(v) != is_torch(u):
        kind = "a tensor" if is_torch(u) else "a NumPy array"
        raise TypeError(f"`velocity` must return {kind}, got {type(v).__name__}.")
    if tuple(v.shape) != tuple(u.shape):
        raise ValueError(
            f"`velocity` returned shape {tuple(v.shape)} for a state of shape "
            f"{tuple(u.shape)}; they must be equal."
        )
    if dtype_name(v) != dtype_name(u) or device_of(v) != device_of(u):
        raise TypeError(
            f"`velocity` returned {dtype_name(v)} on {device_of(v) or 'NumPy'} for a "
            f"state of {dtype_name(u)} on {device_of(u) or 'NumPy'}."
        )
    if finite and not all_finite(v):
        count, index = first_nonfinite(v)
        raise ValueError(
            f"The velocity at t0 = {t:g} has {count} non-finite value(s), the first at "
            f"index {index}; check the energy's gradient at `u0`."
        )


def check_admissible(flow: Any, z: Array) -> None:
    """The start is a state that the flow allows."""
    inside = np.atleast_1d(to_numpy(flow.admissible(z)))
    if not inside.all():
        bounds = getattr(flow, "bounds", None) or getattr(flow.space, "bounds", None)
        where = (
            "what `admissible` of the flow allows" if bounds is None else repr(bounds)
        )
        which = f" (member {int(np.argmin(inside))})" if inside.size > 1 else ""
        raise ValueError(f"`u0` is outside {where}{which}; start inside.")


def check_step(t0: float, t1: float, dt: float | Adaptive, u: Array) -> None:
    """Refuse steps that leave t where it is; warn of a tolerance below rounding."""
    if isinstance(dt, Adaptive):
        least = 100.0 * float(np.finfo(dtype_name(u)).eps)
        if dt.rtol < least:
            warnings.warn(
                f"`rtol` = {dt.rtol:g} is below {least:.1e}, 100 times the rounding of "
                f"{dtype_name(u)}: steps are chosen by noise. Raise it, or use "
                "float64.",
                stacklevel=4,
            )
        return
    far = max(abs(t0), abs(t1)) if math.isfinite(t1) else abs(t0)
    if dt < math.ulp(far) and t1 > t0:
        raise ValueError(
            f"`dt` = {dt:g} is below {math.ulp(far):.3g}, the spacing of "
            f"floating-point numbers at t = {far:g}; take a larger one, or shift the "
            "time towards 0."
        )


def check_hooks(on_step: Any) -> tuple[Any, ...]:
    """The hooks as a tuple."""
    hooks = tuple(on_step) if isinstance(on_step, (tuple, list)) else (on_step,)
    for hook in hooks:
        if isinstance(hook, type):
            raise TypeError(
                f"`on_step` has the class {hook.__name__}; write "
                f"`{hook.__name__}(...)`."
            )
        if not callable(hook) and not hasattr(hook, "start"):
            raise TypeError(f"`on_step` takes callables (t, u) or hooks, got {hook!r}.")
    return hooks


def check_stability(
    flow: Any, scheme: Any, t0: float, t1: float, u: Array, dt: float
) -> None:
    """Refuse an explicit step above its stability bound before the run."""
    if math.isinf(scheme.stability) or not hasattr(flow, "stable_step") or t1 == t0:
        return
    with np.errstate(all="ignore"):
        bound = float(flow.stable_step(t0, u)) * scheme.stability / 2.0
    span = t1 - t0
    h = span / count_steps(span, dt) if math.isfinite(span) else dt
    if h > bound * (1 + 1e-9):
        raise ValueError(
            f"`dt` = {h:.4g} is above the stability bound {bound:.4g} of {scheme!r} "
            "for this flow; take a smaller dt, Adaptive(), or an implicit scheme such "
            "as ImplicitEuler()."
        )
