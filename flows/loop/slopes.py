"""Whether a gradient by the user is that of the potential."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import dtype_name, namespace, to_numpy

__all__ = ["check_slopes"]

Array = Any


def check_slopes(flow: Any, t: float, z: Array) -> None:
    """The energy changes along the velocity as the gradient says.

    Asked where a potential comes with a ``gradient``. A kink between the two sides
    passes, and so does a start beside which the energy is not defined.

    Raises
    ------
    ValueError
    """
    base = getattr(flow, "base", None)
    if base is not None and hasattr(flow.space, "points"):
        flow, z = base, flow.space.points(z)
    terms = getattr(getattr(flow, "functional", None), "terms", ())
    given = [t for t in terms if getattr(t.function, "first", None) is not None]
    if not given or not flow.is_gradient or not rated(flow):
        return
    found = rates(flow, t, z)
    if found is None:
        return
    expected, far, near, noise = found
    slack = noise + 0.1 * np.abs(expected)
    wrong = (np.abs(far - expected) > slack) & (np.abs(near - expected) > slack)
    # Quotients that disagree with each other tell nothing.
    wrong &= np.abs(far - near) <= noise + 0.1 * np.abs(near)
    if not wrong.any():
        return
    i = int(np.argmax(wrong))
    rate = near[i]
    opposite = abs(rate + expected[i]) <= 0.1 * abs(expected[i])
    raise ValueError(
        f"`gradient` of {given[0].function!r} is not the gradient of V at `u0`: along "
        f"minus the gradient V changes at the rate {rate:.4g}, not {expected[i]:.4g}. "
        + (
            "The sign is wrong: return dV/dx, the flow goes down by itself. "
            if opposite
            else "Return dV/dx, or leave `gradient` out. "
        )
        + "A force that is no gradient is `flow(energy, drift=force)`."
    )


def rated(flow: Any) -> bool:
    """Whether the rate of the energy is known: d/dt energy = -inner(v, v)."""
    names = ("velocity", "energy", "inner")
    try:
        return all(hasattr(flow, name) for name in names)
    except TypeError:
        # A property says by it that there is no inner product here.
        return False


def rates(
    flow: Any, t: float, z: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """The rate of the energy that is due, two difference quotients, their error.

    None where the state rests or something is not finite.
    """
    xp = namespace(z)
    eps = float(np.finfo(dtype_name(z)).eps)
    decode = getattr(flow, "decode", lambda a: a)
    retract = getattr(flow, "retract", lambda a: a)
    try:
        with np.errstate(all="ignore"):
            v = flow.velocity(t, z)
            fastest = float(xp.max(xp.abs(v)))
            if not 0.0 < fastest < np.inf:
                return None
            e = eps ** (1 / 3) * max(1.0, float(xp.max(xp.abs(z)))) / fastest
            places = (-e, -0.25 * e, 0.0, 0.25 * e, e)
            ends = [decode(retract(z + s * v)) for s in places]
            F = [np.atleast_1d(to_numpy(flow.energy(t, u))) for u in ends]
            expected = -np.atleast_1d(to_numpy(flow.inner(z, v, v)))
    except (ArithmeticError, ValueError, RuntimeError, np.linalg.LinAlgError):
        # Beside the start V may not be defined.
        return None
    if not all(np.isfinite(values).all() for values in (*F, expected)):
        return None
    # Slopes to the left and right differ at a kink, the rate is one between them.
    bend = np.abs(F[4] - 2.0 * F[2] + F[0]) / e
    slack = 256.0 * eps * np.abs(F[2]) / e + bend
    return expected, (F[4] - F[0]) / (2.0 * e), (F[3] - F[1]) / (0.5 * e), slack
