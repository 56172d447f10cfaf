"""Masses of the cells of rectangular grids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature, quadrature
from flows.measures.checks import real_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.measures.base import Measure

__all__ = ["cell_masses", "check_edges"]

Array = Any
NODES = 1 << 22


def cell_masses(measure: Measure, edges: Any) -> Array:
    """Mass that a measure gives to every cell of a rectangular grid.

    Parameters
    ----------
    measure : Measure
    edges : (n+1,) array for d = 1, or a tuple of d such arrays
        Increasing cell boundaries along each axis.

    Returns
    -------
    (n1, .., nd) array
        Not normalized: what lies outside the grid is missing. Exact (differences of
        the cdf, taken in the nearer tail) in one dimension, for independent
        coordinates, for atoms and for piecewise constant densities; otherwise 4-point
        Gauss rules in every direction, refined to about 1e-10 for smooth densities
        (1e-5 at the front of a steep Barenblatt profile). An atom belongs to the
        cell on its right, or to the last cell at the upper end.

    Raises
    ------
    ValueError
        For edges that do not increase or whose number is not the dimension.
    """
    return measure._cells(check_edges(edges, measure.d))


def check_edges(edges: Any, d: int) -> tuple[Array, ...]:
    """Edges as a tuple of d increasing float arrays."""
    several = isinstance(edges, (tuple, list)) and len(edges) and np.ndim(edges[0])
    axes = tuple(edges) if several else (edges,)
    if len(axes) != d:
        raise ValueError(
            f"`edges` has {len(axes)} axes for a measure on R^{d}; give a tuple of "
            f"{d} arrays."
        )
    checked = tuple(real_array(e, f"edges[{k}]") for k, e in enumerate(axes))
    for k, e in enumerate(checked):
        if e.ndim != 1 or e.size < 2:
            raise ValueError(
                f"`edges[{k}]` has shape {e.shape}, expected (n+1,) with n >= 1."
            )
        if not (np.diff(e) > 0).all():
            i = int(np.argmin(np.diff(e)))
            raise ValueError(
                f"`edges[{k}]` must increase; entries {i} and {i + 1} are {e[i]:g} "
                f"and {e[i + 1]:g}."
            )
    return checked


def line(measure: Measure, edges: Array) -> Array:
    """Cell masses on the line by differences of the cdf in the nearer tail."""
    below, above = measure.cdf(edges), measure.survival(edges)
    left = np.diff(below)
    right = -np.diff(above)
    return np.maximum(np.where(above[:-1] < below[1:], right, left), 0.0)


def outer(factors: list[Array]) -> Array:
    """Outer product of one-dimensional masses."""
    product = factors[0]
    for masses in factors[1:]:
        product = np.multiply.outer(product, masses)
    return product


def by_quadrature(
    pdf: Callable[[Array], Array],
    edges: tuple[Array, ...],
    box: Array,
    resolution: float,
) -> Array:
    """Cell masses by 4-point Gauss rules on cells cut to ``resolution`` inside ``box``.

    The cut is halved until the total change is below 1e-10 or 4e6 nodes are reached.
    """
    previous = None
    size = resolution
    while True:
        fine = [
            _refine(e, lo, hi, size) for e, (lo, hi) in zip(edges, box, strict=True)
        ]
        nodes = int(np.prod([4.0 * (f.size - 1) for f in fine]))
        if previous is not None and nodes > NODES:
            return previous
        if nodes > 16 * NODES:
            raise ValueError(
                f"The measure varies over a length of {resolution:.2g}, too little for "
                "cell masses by quadrature on this grid; use the cells of a sample, "
                "Empirical(measure.sample(n, rng))."
            )
        masses = _gauss_masses(pdf, fine)
        for axis, (e, f) in enumerate(zip(edges, fine, strict=True)):
            starts = np.searchsorted(f, e[:-1])
            masses = np.add.reduceat(masses, starts, axis=axis)
        change = np.inf if previous is None else np.sum(np.abs(masses - previous))
        if change <= 1e-10 * np.sum(masses):
            return masses
        previous, size = masses, 0.5 * size


def _refine(edges: Array, lo: float, hi: float, size: float) -> Array:
    """Edges with every cell that meets [lo, hi] cut there into parts <= ``size``."""
    lo, hi = max(lo, edges[0]), min(hi, edges[-1])
    if hi <= lo:
        return edges
    marks = np.unique(np.concatenate([[lo, hi], edges[(edges > lo) & (edges < hi)]]))
    parts = np.maximum(np.ceil(np.diff(marks) / size - 1e-9), 1.0).astype(int)
    start = np.repeat(marks[:-1], parts)
    width = np.repeat(np.diff(marks) / parts, parts)
    step = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.unique(np.concatenate([edges, start + step * width, [hi]]))


def _gauss_masses(pdf: Callable[[Array], Array], edges: list[Array]) -> Array:
    """4-point Gauss rule of the density on every cell, in slabs of the first axis."""
    rules = [quadrature.panel_nodes(e, 4) for e in edges]
    shape = tuple(e.size - 1 for e in edges)
    rest = int(np.prod([4 * n for n in shape[1:]], dtype=float))
    rows = max(1, quadrature.CHUNK // (4 * max(rest, 1)))
    masses = np.empty(shape)
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        first = slice(4 * start, 4 * stop)
        points, weights = cubature.tensor(
            [rules[0][0][first], *(x for x, _ in rules[1:])],
            [rules[0][1][first], *(w for _, w in rules[1:])],
        )
        split = [m for n in (stop - start, *shape[1:]) for m in (n, 4)]
        products = (pdf(points) * weights).reshape(split)
        masses[start:stop] = products.sum(axis=tuple(range(1, 2 * len(shape), 2)))
    return masses
