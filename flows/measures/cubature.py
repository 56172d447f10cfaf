"""Quadrature in several dimensions: tensor and polar rules, symmetric cubature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures.quadrature import (
    evaluate,
    gauss_legendre,
    panel_nodes,
    refuse_nan,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "by_symmetry",
    "converged_expectation",
    "integrate_density",
    "plane",
    "sphere",
    "symmetric_cubature",
    "tensor",
]

Array = Any


def tensor(axes: list[Array], weights: list[Array]) -> tuple[Array, Array]:
    """Tensor product rule: points (N, d) and weights (N,)."""
    grids = np.meshgrid(*axes, indexing="ij")
    points = np.stack([g.ravel() for g in grids], axis=-1)
    product = weights[0]
    for w in weights[1:]:
        product = np.multiply.outer(product, w)
    return points, product.ravel()


def converged_expectation(
    rule: Callable[[int], tuple[Array, Array]],
    f: Callable[[Array], Array],
    sizes: tuple[int, ...],
    fallback: Callable[[], float] | None = None,
) -> float:
    """Expectation of f by ``rule(n)`` for growing n until two values agree to 1e-12.

    Parameters
    ----------
    rule : callable
        Points (N, d) and weights (N,) of the n-th rule.
    f : callable
        Function of points (N, d).
    sizes : tuple of int
        The numbers n to try.
    fallback : callable, optional
        Used when they do not agree; without one the last value is returned if it is
        good to 1e-3.

    Raises
    ------
    ValueError
        When the values do not settle or f is NaN.
    """
    previous = change = scale = np.inf
    value = np.nan
    for n in sizes:
        points, weights = rule(n)
        y = evaluate(f, points)
        value, scale = float(weights @ y), float(np.abs(weights) @ np.abs(y))
        refuse_nan(value)
        change = abs(value - previous)
        if change <= 1e-12 * scale or value == previous:
            return value
        previous = value
    if fallback is not None:
        return fallback()
    if change > 1e-3 * scale:
        raise ValueError(
            f"The expectation did not converge: {value:.6g} with a change of "
            f"{change:.2g} in the last refinement. Take the mean over a sample, "
            "Empirical(measure.sample(n, rng))."
        )
    return value


def plane(
    f: Callable[[Array], Array], rows: Array, columns: Array, rtol: float = 1e-9
) -> float:
    """Integral of f over a rectangle, cut into four wherever it is not smooth.

    Parameters
    ----------
    f : callable
        Takes points (k, q, 2), returns (k, q).
    rows, columns : arrays
        First cuts along both axes.

    Notes
    -----
    A kink along a curve takes a number of cells proportional to 1/size, so after
    4e6 evaluations the value is returned as it is, usually good to 1e-6 then.
    """
    corners = tensor([rows[:-1], columns[:-1]], [rows[:-1], columns[:-1]])[0]
    sizes = tensor([np.diff(rows), np.diff(columns)], [rows[:-1], columns[:-1]])[0]
    values = _cell_integrals(f, corners, sizes)
    quarters = np.array([[0.0, 0.0], [0.0, 0.5], [0.5, 0.0], [0.5, 0.5]])
    total = scale = 0.0
    spent = corners.shape[0]
    while values.size:
        halves = np.repeat(0.5 * sizes, 4, axis=0)
        parts = (corners[:, None] + quarters * sizes[:, None]).reshape(-1, 2)
        fine = _cell_integrals(f, parts, halves)
        spent += fine.size
        sums = fine.reshape(-1, 4).sum(axis=1)
        size = scale + float(np.sum(np.abs(sums)))
        keep = np.abs(sums - values) <= 0.01 * rtol * size
        if spent > 100_000:
            keep[:] = True
        refuse_nan(float(np.sum(sums)))
        total += float(np.sum(sums[keep]))
        scale += float(np.sum(np.abs(sums[keep])))
        split = np.repeat(~keep, 4)
        corners, sizes, values = parts[split], halves[split], fine[split]
    return total


def _cell_integrals(f: Callable[[Array], Array], corners: Array, sizes: Array) -> Array:
    """6 x 6 Gauss rule on cells given by corner and size (k, 2)."""
    u, w = gauss_legendre(6)
    nodes, weights = tensor([u, u], [w, w])
    out = np.empty(corners.shape[0])
    for start in range(0, out.size, 4096):
        part = slice(start, start + 4096)
        x = corners[part, None] + nodes * sizes[part, None]
        out[part] = np.prod(sizes[part], axis=1) * (f(x) @ weights)
    return out


def by_symmetry(
    f: Callable[[Array], Array], points: Array, weights: Array, measure: Any
) -> float:
    """Expectation of a polynomial f of degree 5 under a rotation-invariant law.

    Raises
    ------
    ValueError
        When the rule changes its value under rotations, so f is no such polynomial.
    """
    d = points.shape[1]
    values, scale = [], 0.0
    for k in range(3):
        y = f(points @ rotation(d, k).T)
        values.append(float(weights @ y))
        scale = max(scale, float(np.abs(weights) @ np.abs(y)))
    if not np.ptp(values) <= 1e-10 * scale:
        raise ValueError(
            f"In dimension {d} only polynomials of degree 5 have exact expectations "
            f"under {measure!r}; take the mean over a sample, "
            "Empirical(measure.sample(n, rng)).expect(f)."
        )
    return values[0]


def rotation(d: int, k: int) -> Array:
    """The k-th of a fixed sequence of rotations of R^d; the 0-th is the identity."""
    if k == 0:
        return np.eye(d)
    i = np.arange(d * d, dtype=float).reshape(d, d)
    return np.linalg.qr(np.cos(k * (1.0 + i * np.sqrt(2.0))))[0]


def sphere(d: int, n: int) -> tuple[Array, Array]:
    """Points (N, d) on the unit sphere of R^2 or R^3 and weights of sum 1.

    Exact for polynomials of degree 2 n - 1.
    """
    angle = 2.0 * np.pi * (np.arange(2 * n) + 0.5) / (2 * n)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    if d == 2:
        return circle, np.full(2 * n, 0.5 / n)
    u, w = gauss_legendre(n)
    height = 2.0 * u - 1.0
    ring = np.sqrt((1.0 - height) * (1.0 + height))
    points = np.concatenate(
        [
            ring[:, None, None] * circle,
            np.broadcast_to(height[:, None, None], (n, 2 * n, 1)),
        ],
        axis=-1,
    )
    return points.reshape(-1, 3), np.repeat(w, 2 * n) * 0.5 / n


def symmetric_cubature(
    d: int, second: float, fourth: float, mixed: float
) -> tuple[Array, Array]:
    """Rule of degree 5 with 2 d^2 + 1 points for a fully symmetric law on R^d.

    Parameters
    ----------
    second, fourth, mixed : float
        E x_1^2, E x_1^4 and E x_1^2 x_2^2.

    References
    ----------
    J. McNamee, F. Stenger, Numer. Math. 10 (1967), doi:10.1007/BF02162032.
    """
    u = np.sqrt(fourth / second)
    pair = mixed / (4.0 * u**4)
    single = 0.5 * (second / u**2 - (d - 1) * mixed / u**4)
    center = 1.0 - 2.0 * d * single - 2.0 * d * (d - 1) * pair
    axis = np.concatenate([np.eye(d), -np.eye(d)]) * u
    i, j = np.triu_indices(d, 1)
    pairs = np.zeros((4, i.size, d))
    rows = np.arange(i.size)
    for k, (a, b) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        pairs[k, rows, i] = a * u
        pairs[k, rows, j] = b * u
    points = np.concatenate([np.zeros((1, d)), axis, pairs.reshape(-1, d)])
    weights = np.concatenate(
        [[center], np.full(2 * d, single), np.full(4 * i.size, pair)]
    )
    return points, weights


def integrate_density(measure: Any, g: Callable[[Array], Array]) -> float:
    """Integral of g(pdf) over the box of a measure on R^2 or R^3.

    Panels of an 8-point Gauss rule are doubled until two values agree to 1e-10.
    """
    if measure.d > 3:
        raise TypeError(
            f"Integrals of the density of {measure!r} are known for d <= 3 only."
        )
    box = measure.box(1.0 - 1e-15)
    previous = value = np.nan
    for count in (4, 8, 16, 32, 64) if measure.d == 2 else (4, 8, 16):
        rules = [panel_nodes(np.linspace(lo, hi, count + 1), 8) for lo, hi in box]
        points, volumes = tensor([x for x, _ in rules], [w for _, w in rules])
        y = np.asarray(g(measure.pdf(points)), dtype=float)
        value = float(volumes @ y)
        if abs(value - previous) <= 1e-10 * float(volumes @ np.abs(y)):
            break
        previous = value
    return value
