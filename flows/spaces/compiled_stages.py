"""Sources of one step of a Runge-Kutta or Rosenbrock scheme; see ``compiled_source``.

``attempt(x, k, t, h, p, y, e, f)`` steps from x (d, LANES) with slopes k to y; e is the
error, and f the slope at y where the scheme has it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["explicit_source", "rosenbrock_source"]

SPACING = 2.0**-52


@lru_cache(maxsize=64)
def explicit_source(table: Any, n: int) -> str:
    """Source of an explicit step of all lanes, and of the slopes where they are.

    It is one loop of plain arithmetic, which LLVM turns into vector instructions.
    """

    def row(name: str, at: str) -> str:
        return ", ".join(f"{name}[{j}, {at}]" for j in range(n))

    def names(name: str) -> str:
        return ", ".join(f"{name}_{j}" for j in range(n)) + ","

    def combined(row: Any, j: int) -> str:
        return "h[i]*(" + " + ".join(f"{a!r}*k{s}_{j}" for s, a in row) + ")"

    body = [f"{names('x')} = {row('x', 'i')},", f"{names('k0')} = {row('k', 'i')},"]
    point = "x"
    for s, (c, coefficients) in enumerate(table.stages):
        point = f"y{s}"
        body += [
            f"{point}_{j} = x_{j} + ({combined(coefficients, j)})" for j in range(n)
        ]
        arguments = ", ".join(f"{point}_{j}" for j in range(n))
        body.append(f"{names(f'k{s + 1}')} = slope({arguments}, t[i] + {c!r}*h[i], p)")
    if not table.fsal:
        body += [f"y_{j} = x_{j} + ({combined(table.weights, j)})" for j in range(n)]
        point = "y"
    last = len(table.stages)
    for j in range(n):
        if table.error:
            body.append(f"e[{j}, i] = {combined(table.error, j)}")
        body += [f"y[{j}, i] = {point}_{j}", f"f[{j}, i] = k{last}_{j}"]
    return "\n".join(
        [
            f"fsal, stages = {table.fsal!r}, {last}\n\n",
            "@inlined",
            "def attempt(x, k, t, h, p, y, e, f):",
            "    for i in range(LANES):",
            *(f"        {line}" for line in body),
            slopes_source(n),
        ]
    )


def slopes_source(n: int) -> str:
    """Source of ``slope_of`` one lane, and ``slopes`` of all."""
    at = ", ".join(f"x[{j}, i]" for j in range(n))
    return "\n".join(
        [
            "\n\n@compiled",
            f"def slope_of(x, i, t, p, k):\n    values = slope({at}, t, p)",
            *(f"    k[{j}, i] = values[{j}]" for j in range(n)),
            "\n\n@compiled",
            "def slopes(x, t, p, k):",
            "    for i in range(LANES):",
            "        slope_of(x, i, t[i], p, k)",
            "",
        ]
    )


LINEAR = """
@compiled
def factor(W, order):
    for c in range(d):
        best = c
        for i in range(c + 1, d):
            if abs(W[i, c]) > abs(W[best, c]):
                best = i
        order[c] = best
        if best != c:
            for j in range(d):
                W[c, j], W[best, j] = W[best, j], W[c, j]
        for i in range(c + 1, d):
            W[i, c] /= W[c, c]
            for j in range(c + 1, d):
                W[i, j] -= W[i, c] * W[c, j]


@compiled
def solve(W, order, r):
    for c in range(d):
        if order[c] != c:
            r[c], r[order[c]] = r[order[c]], r[c]
    for c in range(d):
        for i in range(c + 1, d):
            r[i] -= W[i, c] * r[c]
    for c in range(d - 1, -1, -1):
        for j in range(c + 1, d):
            r[c] -= W[c, j] * r[j]
        r[c] /= W[c, c]
"""

STEP = """
@compiled
def attempt(x, k, t, h, p, y, e, f):
    W, order = np.empty((d, d)), np.empty(d, np.int64)
    U, change = np.empty((count, d)), np.zeros(d)
    for i in range(LANES):
        if h[i] != 0.0:
            one(x, k, i, t[i], h[i], p, y, e, W, order, U, change)


@compiled
def one(x, k, i, t, h, p, y, e, W, order, U, change):
    part = GAMMA * h
    values = hessian(POINT, t, p)
    for a in range(d):
        for b in range(a):
            W[a, b] = W[b, a] = part * values[a * (a + 1) // 2 + b]
        W[a, a] = 1.0 + part * values[a * (a + 1) // 2 + a]
    factor(W, order)
"""

CHANGE = """    near = (t + SMALL * h) - t
    far = (t + 2.0 * SMALL * h) - t
    first, second = slope(POINT, t + near, p), slope(POINT, t + far, p)
    for j in range(d):
        low, high = (first[j] - k[j, i]) / near, (second[j] - k[j, i]) / far
        change[j] = low + (low - high) * (near / (far - near))
"""


def rosenbrock_source(table: Any, n: int, timed: bool) -> str:
    """Source of a Rosenbrock step, and of the slopes; ``timed``: V depends on time.

    Every system has one matrix, I + g h Hess V, which is factored with pivots.
    """
    point = ", ".join(f"x[{j}, i]" for j in range(n))
    count, gamma = len(table.stages), table.gamma
    body: list[str] = []

    def combined(start: str, weights: list[float], j: int) -> str:
        parts = [f"{w!r}*U[{m}, {j}]" for m, w in enumerate(weights) if w]
        return " + ".join([start, *parts])

    for s, (a, c) in enumerate(zip(table.stages, table.couplings, strict=True)):
        if s:
            at = ", ".join(combined(f"x[{j}, i]", a, j) for j in range(n))
            body.append(f"values = slope({at}, t + {table.times[s]!r}*h, p)")
        for j in range(n):
            slope = f"values[{j}]" if s else f"k[{j}, i]"
            right = combined(f"part*{slope}", [gamma * w for w in c], j)
            if timed and table.slopes[s]:
                right += f" + ({table.slopes[s]!r}*h*part)*change[{j}]"
            body.append(f"U[{s}, {j}] = {right}")
        body.append(f"solve(W, order, U[{s}])")
    for j in range(n):
        end = combined(f"x[{j}, i]", [*a, 1.0], j)
        body += [f"y[{j}, i] = {end}", f"e[{j}, i] = U[{s}, {j}]"]
    # The slope at x is known; its changes in time take two more.
    constants = (
        f"fsal, count, stages = False, {count}, {count - 1 + 2 * timed}",
        f"GAMMA, SMALL = {gamma!r}, {SPACING ** (1.0 / 6.0)!r}",
    )
    step = (STEP + CHANGE * timed).replace("POINT", point)
    return "\n".join(
        [*constants, LINEAR, step.rstrip(), *(f"    {x}" for x in body)]
    ) + slopes_source(n)
