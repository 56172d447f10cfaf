"""Implicit steps of one point with few coordinates, in plain Python numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from flows.linear import count_iterations
from flows.symbolic.scalar_programs import point_model

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["MOST_COORDINATES", "single_move"]

Array = Any
Models = tuple[tuple[float, Any, tuple[float, ...]], ...]
MOST_COORDINATES = 8
MOST_ITERATIONS = 50
MOST_BACKTRACKS = 40
EPS = float(np.finfo(np.float64).eps)
_MODELS: WeakKeyDictionary[Any, dict[int, Models | None]] = WeakKeyDictionary()


def models_of(functional: Energy, n: int) -> Models | None:
    """Scale, function and parameters of each term; None unless all are formulas."""
    known = _MODELS.setdefault(functional, {})
    if n not in known:
        pairs = [
            (term.scale, point_model(term.function, n)) for term in functional.terms
        ]
        found = tuple((scale, *pair) for scale, pair in pairs if pair is not None)
        known[n] = found if len(found) == len(pairs) else None
    return known[n]


def single_move(
    functional: Energy, t: float, u: Array, h: float, start: Array, minimum: bool
) -> Array | None:
    """argmin_v V(v) + |v - u|^2 / 2h at one point u (n,) of float64.

    The method of ``pointwise.minimize_move`` where the Hessian of the objective is
    positive definite all the way; None where it is not, where V is no formula or not
    finite, and where the iteration does not end: all of that is for the other one.
    """
    models = models_of(functional, u.shape[0])
    if models is None:
        return None
    try:
        found = descend(models, t, u.tolist(), h, start.tolist(), minimum)
    except (ArithmeticError, ValueError):
        return None
    if found is None:
        return None
    v, iterations = found
    count_iterations(iterations)
    return np.array(v)


def evaluate(models: Models, t: float, x: list[float]) -> list[float] | None:
    """V, its slopes and the lower triangle of its Hessian; None where not finite."""
    (scale, function, parameters), *others = models
    values = function(*x, t, *parameters)
    if others or scale != 1.0:
        values = [scale * value for value in values]
        for factor, other, more in others:
            added = other(*x, t, *more)
            values = [v + factor * a for v, a in zip(values, added, strict=True)]
    total = sum(values)
    # A power of a negative number is complex.
    if isinstance(total, complex) or not math.isfinite(total):
        return None
    return list(values)


def descend(
    models: Models,
    t: float,
    u: list[float],
    h: float,
    v: list[float],
    minimum: bool,
) -> tuple[list[float], int] | None:
    """Newton's method with backtracking; None where it is not plain sailing."""
    n = len(u)
    now = evaluate(models, t, v)
    best, stalled = math.inf, 0
    for iteration in range(MOST_ITERATIONS):
        if now is None:
            return None
        push = [h * g for g in now[1 : n + 1]]
        r = [a - b + p for a, b, p in zip(v, u, push, strict=True)]
        size = [
            1.0 + abs(a) + abs(b) + abs(p) for a, b, p in zip(u, v, push, strict=True)
        ]
        error = max(abs(a) / s for a, s in zip(r, size, strict=True))
        stalled = 0 if error < 0.5 * best else stalled + 1
        best = min(best, error)
        matrix = shifted_rows(now, n, h)
        if error <= 8.0 * EPS or (stalled >= 1 and rests(matrix, v, r, size)):
            ends = not minimum or cholesky(matrix) is not None
            return (v, iteration) if ends else None
        factor = cholesky(matrix)
        if factor is None or stalled > 5:
            return None
        step = [-x for x in solve(factor, r)]
        found = search(models, t, u, h, v, now, r, step)
        if found is None:
            return None
        v, now = found
    return None


def shifted_rows(values: list[float], n: int, h: float) -> list[list[float]]:
    """Rows of the lower triangle of I + h Hess V."""
    rows, place = [], n + 1
    for i in range(n):
        row = [h * value for value in values[place : place + i + 1]]
        row[i] += 1.0
        rows.append(row)
        place += i + 1
    return rows


def rests(
    matrix: list[list[float]], v: list[float], r: list[float], size: list[float]
) -> bool:
    """Whether rounding of v alone explains the residual."""
    n = len(v)
    for i in range(n):
        reach = sum(
            abs((matrix[i][j] if j <= i else matrix[j][i]) * v[j]) for j in range(n)
        )
        if abs(r[i]) > 64.0 * EPS * (size[i] + reach):
            return False
    return True


def cholesky(matrix: list[list[float]]) -> list[list[float]] | None:
    """Lower factor of a matrix given by its lower rows; None unless it is positive."""
    factor: list[list[float]] = []
    for i, given in enumerate(matrix):
        row: list[float] = []
        for j in range(i):
            other = factor[j]
            a = given[j] - sum(row[k] * other[k] for k in range(j))
            row.append(a / other[j])
        pivot = given[i] - sum(x * x for x in row)
        if not pivot > 0.0:
            return None
        factor.append([*row, math.sqrt(pivot)])
    return factor


def solve(factor: list[list[float]], b: list[float]) -> list[float]:
    """The solution of L L^T x = b."""
    n, x = len(b), list(b)
    for i in range(n):
        row = factor[i]
        x[i] = (x[i] - sum(row[k] * x[k] for k in range(i))) / row[i]
    for i in reversed(range(n)):
        later = sum(factor[k][i] * x[k] for k in range(i + 1, n))
        x[i] = (x[i] - later) / factor[i][i]
    return x


def search(
    models: Models,
    t: float,
    u: list[float],
    h: float,
    v: list[float],
    now: list[float],
    r: list[float],
    step: list[float],
) -> tuple[list[float], list[float]] | None:
    """The point after the largest of step, step/2, .. that does not raise the value."""
    push = h * now[0]
    before = push + 0.5 * sum((a - b) ** 2 for a, b in zip(v, u, strict=True))
    slack = 16.0 * EPS * (abs(before) + abs(push) + sum(a * a for a in u))
    slope = sum(a * s for a, s in zip(r, step, strict=True))
    part = 1.0
    for _ in range(MOST_BACKTRACKS):
        trial = [a + part * s for a, s in zip(v, step, strict=True)]
        new = evaluate(models, t, trial)
        if new is not None:
            gap = sum((a - b) ** 2 for a, b in zip(trial, u, strict=True))
            if h * new[0] + 0.5 * gap <= before + 1e-4 * part * slope + slack:
                return trial, new
        part *= 0.5
    return None
