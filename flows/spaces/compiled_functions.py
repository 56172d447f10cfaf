"""Compiled steps of points under gradients that the user wrote in NumPy.

numba compiles the gradient to a pointer, so that the loops around it, which take it as
an argument, are compiled once for a number of coordinates and kept on disk. ``attempt``
is that of ``compiled_stages``, for one lane.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.symbolic import CallableField, Constant

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled_gradient", "function_stages", "gradient_obstacle", "is_function"]

Array = Any

SPACING = 2.0**-52


def is_function(functional: Any) -> bool:
    """Whether a potential is a function of the user's, with a gradient."""
    return any(
        isinstance(term.function, CallableField) and term.function.first is not None
        for term in functional.terms
    )


def gradient_obstacle(functional: Any, t: float, u: Array) -> str | None:
    """Why the gradient of functions has no compiled form at the point ``u`` (n,)."""
    try:
        slope = compiled_gradient(functional)
    except TypeError as error:
        return str(error)
    found, x = np.empty_like(u), np.array(u)
    slope(x, t, found)
    exact = -sum(term.gradient_at(x, t) for term in functional.terms)
    size = max(float(np.abs(exact).max()), math.ulp(1.0))
    if np.isfinite(exact).all() and not np.abs(found - exact).max() <= 1e-9 * size:
        return (
            "`gradient` has other values in compiled code: numba keeps the numbers and "
            "arrays outside the function as they were; make a new Potential after "
            "changing them"
        )
    return None


@lru_cache(maxsize=64)
def compiled_gradient(functional: Any) -> Any:
    """``slope(x, t, out)``, which writes -grad V(x) (n,) to ``out``.

    Raises
    ------
    TypeError
        When a potential has no gradient, or one that numba cannot compile.
    """
    import numba

    slope = numba.njit(nothing)
    for term in functional.terms:
        function = term.function
        if isinstance(function, Constant):
            continue
        if not isinstance(function, CallableField) or function.first is None:
            raise TypeError(
                "potentials may all be formulas, or all functions with `gradient=`"
            )
        slope = numba.njit(
            added(slope, numba.njit(function.first), term.scale, function)
        )
    signature = numba.void(numba.f8[::1], numba.f8, numba.f8[::1])
    options = {"error_model": "numpy", "nogil": True}
    try:
        return numba.njit(signature, **options)(slope.py_func)
    except numba.core.errors.NumbaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = next((x for x in lines if "Failed in" not in x), lines[0])
        raise TypeError(
            f"numba cannot compile `gradient` ({told}); it takes NumPy code for arrays "
            "(n,), without other libraries"
        ) from error


def nothing(x: Array, t: float, out: Array) -> None:
    """The slope of no term."""
    out[:] = 0.0


def added(
    before: Any, gradient: Any, scale: float, function: CallableField
) -> Callable[[Array, float, Array], None]:
    """The slope ``before`` with that of one more term."""
    if function.time_dependent:

        def timed(x, t, out):  # type: ignore[no-untyped-def]
            before(x, t, out)
            g = gradient(x, t)
            if g.shape != x.shape:
                raise ValueError("`gradient` changes its shape in compiled code")
            for j in range(out.size):
                out[j] -= scale * g[j]

        return timed

    def plain(x, t, out):  # type: ignore[no-untyped-def]
        before(x, t, out)
        g = gradient(x)
        if g.shape != x.shape:
            raise ValueError("`gradient` changes its shape in compiled code")
        for j in range(out.size):
            out[j] -= scale * g[j]

    return plain


SLOPES = """
@compiled
def slope_of(x, i, t, p, k):
    p(x.reshape(d), t, k.reshape(d))


@compiled
def slopes(x, t, p, k):
    p(x.reshape(d), t[0], k.reshape(d))


"""


def function_stages(table: Any, width: int, timed: bool) -> str:
    """Source of a step under the slope ``p(x, t, out)``.

    Parameters
    ----------
    table : Tableau or LinearTableau
    width : int
        Diagonals of Hess V beside the main one, for a ``LinearTableau``.
    timed : bool
        Whether V depends on time.
    """
    if hasattr(table, "couplings"):
        return SLOPES + rosenbrock_stages(table, width, timed)
    return SLOPES + explicit_stages(table)


def explicit_stages(table: Any) -> str:
    """An explicit step, written out for the tableau."""

    def combined(row: Any) -> str:
        return "s*(" + " + ".join(f"{a!r}*K[{m}, j]" for m, a in row) + ")"

    last = len(table.stages)
    body = [
        f"K, z, s = np.empty(({last + 1}, d)), np.empty(d), h[0]",
        "for j in range(d):",
        "    K[0, j] = k[j, 0]",
    ]
    for m, (c, row) in enumerate(table.stages):
        body += ["for j in range(d):", f"    z[j] = x[j, 0] + {combined(row)}"]
        body.append(f"p(z, t[0] + {c!r}*s, K[{m + 1}])")
    end = "z[j]" if table.fsal else f"x[j, 0] + {combined(table.weights)}"
    body += ["for j in range(d):", f"    y[j, 0], f[j, 0] = {end}, K[{last}, j]"]
    if table.error:
        body.append(f"    e[j, 0] = {combined(table.error)}")
    return "\n".join(
        [
            f"fsal, stages = {table.fsal!r}, {last}",
            "",
            "",
            "@compiled",
            "def attempt(x, k, t, h, p, y, e, f):",
            *(f"    {line}" for line in body),
            "",
        ]
    )


# I + g h Hess V = L D L' by rows of ``B`` (d, w + 1), B[j, i] the entry (j + i, j). A
# matrix that is not positive definite means a step beyond the pole of R(h lambda) in a
# direction of growth: it is refused.
SYSTEM = """
@compiled
def bands(x, k, t, p, z, g, B):
    period = min(2 * w + 1, d)
    for color in range(period):
        for j in range(d):
            z[j] = x[j, 0]
        for j in range(color, d, period):
            z[j] += SMALL * max(1.0, abs(z[j]))
        p(z, t, g)
        for j in range(color, d, period):
            step = z[j] - x[j, 0]
            for i in range(min(w + 1, d - j)):
                B[j, i] = (k[j + i, 0] - g[j + i]) / step


@compiled
def factor(B):
    for j in range(d):
        if not B[j, 0] > 0.0:
            return False
        B[j, 0] = 1.0 / B[j, 0]
        most = min(w, d - 1 - j)
        for m in range(1, most + 1):
            ratio = B[j, m] * B[j, 0]
            for i in range(m, most + 1):
                B[j + m, i - m] -= ratio * B[j, i]
            B[j, m] = ratio
    return True


@compiled
def solve(B, r):
    for j in range(d):
        for m in range(1, min(w, d - 1 - j) + 1):
            r[j + m] -= B[j, m] * r[j]
    for j in range(d):
        r[j] *= B[j, 0]
    for j in range(d - 1, -1, -1):
        for m in range(1, min(w, d - 1 - j) + 1):
            r[j] -= B[j, m] * r[j + m]


@compiled
def attempt(x, k, t, h, p, y, e, f):
    U, z, g, s, part = np.empty((count, d)), np.empty(d), np.empty(d), h[0], GAMMA*h[0]
    B = np.empty((d, w + 1))
    bands(x, k, t[0], p, z, g, B)
    for j in range(d):
        for m in range(w + 1):
            B[j, m] *= part
        B[j, 0] += 1.0
    if not factor(B):
        e[:] = math.nan
        return
"""

CHANGE = """    change, near, far = np.empty(d), SMALLER * s, 2.0 * SMALLER * s
    near, far = (t[0] + near) - t[0], (t[0] + far) - t[0]
    p(x.reshape(d), t[0] + near, z)
    p(x.reshape(d), t[0] + far, g)
    for j in range(d):
        low, high = (z[j] - k[j, 0]) / near, (g[j] - k[j, 0]) / far
        change[j] = low + (low - high) * (near / (far - near))
"""


def rosenbrock_stages(table: Any, width: int, timed: bool) -> str:
    """A Rosenbrock step; Hess V by differences of 2 w + 1 slopes."""
    count, gamma = len(table.stages), table.gamma

    def combined(start: str, weights: Any) -> str:
        parts = [f"{w!r}*U[{m}, j]" for m, w in enumerate(weights) if w]
        return " + ".join([start, *parts])

    body: list[str] = []
    for s, (a, c) in enumerate(zip(table.stages, table.couplings, strict=True)):
        if s:
            body += ["for j in range(d):", f"    z[j] = {combined('x[j, 0]', a)}"]
            body.append(f"p(z, t[0] + {table.times[s]!r}*s, g)")
        slope = "g[j]" if s else "k[j, 0]"
        right = combined(f"part*{slope}", [gamma * w for w in c])
        if timed and table.slopes[s]:
            right += f" + ({table.slopes[s]!r}*s*part)*change[j]"
        body += ["for j in range(d):", f"    U[{s}, j] = {right}", f"solve(B, U[{s}])"]
    end = combined("x[j, 0]", [*table.stages[-1], 1.0])
    body += [
        "for j in range(d):",
        f"    y[j, 0], e[j, 0] = {end}, U[{count - 1}, j]",
    ]
    return "\n".join(
        [
            f"fsal, count, w = False, {count}, {width}",
            f"stages = {count - 1 + 2 * timed} + min(2 * w + 1, d)",
            f"GAMMA, SMALL = {gamma!r}, {SPACING**0.5!r}",
            f"SMALLER = {SPACING ** (1.0 / 6.0)!r}",
            SYSTEM + CHANGE * timed + "\n".join(f"    {line}" for line in body),
            "",
        ]
    )
