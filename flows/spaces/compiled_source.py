"""Sources of the compiled steps; see ``compiled_steps``.

The step of a scheme is written out for a formula, a dimension and a tableau, by
``compiled_stages``; the loops around it, with the controller of the loop, are the same
for all.
"""

from __future__ import annotations

import math
from typing import Any

from flows.spaces.compiled_stages import explicit_source, rosenbrock_source
from flows.symbolic import Constant, QuadraticField, scalar_programs

__all__ = ["compiled_source"]

# Points stepped side by side by explicit schemes.
LANES = 32

THREADS = """
parallel = numba.njit(error_model="numpy", nogil=True, parallel=True, cache=CACHE)
"""

HEADER = """
import math
import numba
import numpy as np
from flows.symbolic.engines import numba_functions
globals().update(numba_functions())
compiled = numba.njit(error_model="numpy", nogil=True, cache=CACHE)
"""


def horner(coefficients: list[float], x: str) -> str:
    """A polynomial in ``x``, the constant first."""
    *rest, text = map(repr, coefficients)
    for c in reversed(rest):
        text = f"({text}*{x} + {c})"
    return text


# Steps of all lanes with the controller of ``control.PI``. ``powers`` has log x in
# ``logs`` and x^a exp(out) in ``out``, to the last bits, in loops without calls that
# LLVM turns into vector instructions: log m = 2 atanh((m - 1)/(m + 1)) for the mantissa
# m, exp by its Taylor polynomial.
KERNELS = """
@parallel
def fixed(u, out, t0, h, n, p):
    blocks = (u.shape[0] + LANES - 1) // LANES
    for b in numba.prange(blocks):
        low = b * LANES
        m = min(LANES, u.shape[0] - low)
        x, k, y = np.ones((d, LANES)), np.ones((d, LANES)), np.ones((d, LANES))
        e, f = np.ones((d, LANES)), np.ones((d, LANES))
        t, size = np.full(LANES, t0), np.full(LANES, h)
        for i in range(m):
            for j in range(d):
                x[j, i] = u[low + i, j]
        slopes(x, t, p, k)
        for s in range(n):
            attempt(x, k, t, size, p, y, e, f)
            # Outputs that are inputs would keep LLVM from vector instructions.
            x, y, k, f = y, x, f, k
            t[:] = t0 + (s + 1) * h
            if not fsal:
                slopes(x, t, p, k)
        for i in range(m):
            for j in range(d):
                out[low + i, j] = x[j, i]


@compiled
def norm(e, x, y, i, rtol, atol):
    total = 0.0
    for j in range(d):
        scaled = e[j, i] / (atol + rtol * max(abs(x[j, i]), abs(y[j, i])))
        total += scaled * scaled
    return math.sqrt(total / d)


@compiled
def first(x, k, i, t, span, p, order, rtol, atol, y, f):
    d0, d1 = norm(x, x, x, i, rtol, atol), norm(k, x, x, i, rtol, atol)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, span)
    if not h0 > 0.0:
        return min(1e-6, span)
    for j in range(d):
        y[j, i] = x[j, i] + h0 * k[j, i]
    slope_of(y, i, t + h0, p, f)
    for j in range(d):
        f[j, i] -= k[j, i]
    d2 = norm(f, x, x, i, rtol, atol) / h0
    if not d2 < math.inf:
        return h0 * 1e-2
    steepest = max(d1, d2)
    if steepest <= 1e-15:
        h1 = max(1e-6, 1e-3 * h0)
    else:
        h1 = (0.01 / steepest) ** (1.0 / (order + 1))
    h = min(100.0 * h0, h1, span)
    return h if h > 0.0 else min(1e-6, span)


@compiled
def norms(e, x, y, rtol, atol, out):
    for i in range(LANES):
        out[i] = norm(e, x, y, i, rtol, atol)


@compiled
def powers(x, whole, mantissa, a, logs, out):
    number, scale = whole.view(np.float64), mantissa.view(np.float64)
    for i in range(LANES):
        number[i] = x[i]
    for i in range(LANES):
        mantissa[i] = (whole[i] & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000
        whole[i] = (whole[i] >> 52) - 1023
    for i in range(LANES):
        big = 1.0 if scale[i] > 1.4142135623730951 else 0.0
        m = scale[i] * (1.0 - 0.5 * big)
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        logs[i] = (whole[i] + big) * 0.6931471805599453 + 2.0 * s * (LOGARITHM)
    for i in range(LANES):
        z = min(max(a * logs[i] + out[i], -700.0), 700.0)
        k = math.floor(z * 1.4426950408889634 + 0.5)
        s = (z - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
        out[i] = EXPONENTIAL
        whole[i] = (np.int64(k) + 1023) << 52
    for i in range(LANES):
        out[i] *= number[i]


@parallel
def adaptive(u, out, counts, t0, stop, p, orders, limits, pi):
    order, q = orders
    rtol, atol, start, largest, most = limits
    integral, proportional, safety, low, high = pi
    pieces = (u.shape[0] + PIECE - 1) // PIECE
    for piece in numba.prange(pieces):
        begin = piece * PIECE
        end = min(begin + PIECE, u.shape[0])
        x, k, y = np.ones((d, LANES)), np.ones((d, LANES)), np.ones((d, LANES))
        e, f = np.ones((d, LANES)), np.ones((d, LANES))
        # A lane without a point goes on with steps of size 0.
        t, h, size = np.full(LANES, t0), np.zeros(LANES), np.zeros(LANES)
        ratio, factor = np.ones(LANES), np.ones(LANES)
        # Logarithms of the last errors, and of those before.
        logs, previous = np.zeros(LANES), np.zeros(LANES)
        whole, mantissa = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
        who, bad = np.full(LANES, -1), np.zeros(LANES, np.int64)
        again, landing = np.zeros(LANES, np.bool_), np.zeros(LANES, np.bool_)
        waiting, active = begin, 0
        while True:
            for i in range(LANES):
                if who[i] < 0 and waiting < end:
                    who[i] = waiting
                    waiting += 1
                    active += 1
                    for j in range(d):
                        x[j, i] = u[who[i], j]
                    t[i], previous[i], bad[i], again[i] = t0, 0.0, 0, False
                    slope_of(x, i, t0, p, k)
                    counts[who[i], 2] = 1
                    h[i] = start
                    if start == 0.0:
                        span = min(stop - t0, largest)
                        h[i] = first(x, k, i, t0, span, p, order, rtol, atol, y, f)
                        counts[who[i], 2] += 1
                    h[i] = max(h[i], 16.0 * abs(t0) * 2.3e-16)
                if who[i] < 0:
                    continue
                remaining = stop - t[i]
                landing[i] = h[i] >= remaining * (1 - 1e-12)
                size[i] = remaining if landing[i] else min(h[i], 0.5 * remaining)
                small = h[i] < 16.0 * abs(t[i]) * 2.3e-16 and h[i] < remaining
                if small or counts[who[i], 0] + counts[who[i], 1] >= most:
                    counts[who[i], 3] = 1
                    who[i], size[i] = -1, 0.0
                    active -= 1
            if active == 0 and waiting >= end:
                break
            attempt(x, k, t, size, p, y, e, f)
            norms(e, x, y, rtol, atol, ratio)
            for i in range(LANES):
                factor[i] = proportional / q * previous[i]
            powers(ratio, whole, mantissa, -(integral + proportional) / q, logs, factor)
            for i in range(LANES):
                if who[i] < 0:
                    continue
                me = who[i]
                counts[me, 2] += stages
                if ratio[i] <= 1.0:
                    grown = min(high, max(low, safety * factor[i]))
                    if ratio[i] == 0.0:
                        grown = high
                    grown = size[i] * (min(1.0, grown) if again[i] else grown)
                    if size[i] < h[i] and not again[i]:
                        grown = max(grown, h[i])
                    else:
                        previous[i] = max(logs[i], -9.210340371976182)
                    h[i] = min(grown, largest)
                    t[i] = stop if landing[i] else t[i] + size[i]
                    for j in range(d):
                        x[j, i] = y[j, i]
                        k[j, i] = f[j, i]
                    counts[me, 0] += 1
                    again[i], bad[i] = False, 0
                    if t[i] >= stop:
                        for j in range(d):
                            out[me, j] = x[j, i]
                        who[i], size[i] = -1, 0.0
                        active -= 1
                    elif not fsal:
                        slope_of(x, i, t[i], p, k)
                        counts[me, 2] += 1
                    continue
                counts[me, 1] += 1
                again[i] = True
                if ratio[i] < math.inf:
                    shorter = safety * ratio[i] ** (-1.0 / q)
                    h[i] = size[i] * min(0.9, max(low, shorter))
                else:
                    bad[i] += 1
                    h[i] = 0.25 * size[i]
                    if bad[i] > 10:
                        counts[me, 3] = 1
                        who[i], size[i] = -1, 0.0
                        active -= 1
""".replace("LOGARITHM", horner([1.0 / (2 * j + 1) for j in range(12)], "q")).replace(
    "EXPONENTIAL", horner([1.0 / math.factorial(j) for j in range(14)], "s")
)


def compiled_source(
    functional: Any, table: Any, n: int, lanes: int, threads: bool
) -> tuple[str, tuple[float, ...]] | None:
    """Source of the kernels ``fixed`` and ``adaptive``, and the numbers p they take.

    Parameters
    ----------
    functional : Energy
        Potentials.
    table : Tableau or LinearTableau
    n : int
        Number of coordinates.
    lanes : int
        Points stepped side by side.
    threads : bool
        Whether points are spread over the cores. Threads wait for each other where
        other programs keep a core busy, which one point shall not.

    Returns
    -------
    pair or None
        None when a potential has no formula, or a parameter is no number.
    """
    numbers = numbers_of(functional, n)
    if numbers is None:
        return None
    size = f"d, LANES, PIECE = {n}, {lanes}, {16 * lanes}\n\n\n"
    parts = [
        HEADER,
        THREADS if threads else "parallel = compiled\n",
        size,
        function_source(functional, numbers, n, "slope"),
    ]
    if hasattr(table, "couplings"):
        timed = functional.depends_on_time
        parts += [
            function_source(functional, numbers, n, "hessian"),
            rosenbrock_source(table, n, timed),
        ]
    else:
        parts.append(explicit_source(table, n))
    return "".join([*parts, KERNELS]), tuple(x for term in numbers for x in term)


def numbers_of(functional: Any, n: int) -> list[list[float]] | None:
    """The numbers that each term takes: A and b, or its scale and parameters.

    None when a potential has no formula, or a parameter is no number.
    """
    numbers: list[list[float]] = []
    for term in functional.terms:
        function = term.function
        if isinstance(function, Constant):
            numbers.append([])
        elif isinstance(function, QuadraticField):
            A, b = term.scale * function.matrix(n), term.scale * function.linear(n)
            numbers.append([*A.ravel(), *b])
        else:
            values = [v for _, v in sorted((function.parameters or {}).items())]
            if function.inner_expr(n) is None:
                return None
            if not all(isinstance(v, float) for v in values):
                return None
            numbers.append([term.scale, *values])
    return numbers


def function_source(
    functional: Any, numbers: list[list[float]], n: int, name: str
) -> str:
    """Source of ``slope(x1, .., t, p)``, -grad V, or of ``hessian``, its triangle."""
    second = name == "hessian"
    x = ", ".join(f"x{j}" for j in range(n))
    cells = [(i, j) for i in range(n) for j in range(i + 1 if second else 1)]
    sums: list[list[str]] = [[] for _ in cells]
    texts: list[str] = []
    body: list[str] = []
    at = 0
    for i, (term, own) in enumerate(zip(functional.terms, numbers, strict=True)):
        function = term.function
        if isinstance(function, QuadraticField):
            for line, (row, column) in zip(sums, cells, strict=True):
                if second:
                    line.append(f"p[{at + n * row + column}]")
                    continue
                form = " + ".join(f"p[{at + n * row + k}]*x{k}" for k in range(n))
                line.append(f"({form} - p[{at + n * n + row}])")
        elif own:
            text, used = scalar_programs.scalar_source(
                function.inner_expr(n), n, f"{name}{i}", second
            )
            names = sorted(function.parameters or {})
            given = "".join(f", p[{at + 1 + names.index(key)}]" for key in used)
            texts.append(f"@compiled\n{text}")
            body.append(f"g{i} = {name}{i}({x}, t{given})")
            for k, line in enumerate(sums):
                line.append(f"p[{at}]*g{i}[{k}]")
        at += len(own)
    sign = "" if second else "-"
    values = (f"{sign}({' + '.join(line) or '0.0'})" for line in sums)
    body.append(f"return ({', '.join(values)},)")
    head = f"@compiled\ndef {name}({x}, t, p):\n    "
    return "\n".join([*texts, head + "\n    ".join(body) + "\n\n\n"])
