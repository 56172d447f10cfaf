"""Quadrature on the line: adaptive Gauss-Kronrod panels, and pairs of points."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CHUNK",
    "adaptive",
    "evaluate",
    "gauss_legendre",
    "hat_rule",
    "kronrod_panels",
    "mean",
    "pairs",
    "panel_nodes",
    "refuse_nan",
    "weighted",
]

Array = Any
CHUNK = 1 << 18
DEPTH = 64
SINGULAR = 6
_KRONROD_15 = (
    (0.991455371120812639206854697526329, 0.022935322010529224963732008058970),
    (0.949107912342758524526189684047851, 0.063092092629978553290700663189204),
    (0.864864423359769072789712788640926, 0.104790010322250183839876322541518),
    (0.741531185599394439863864773280788, 0.140653259715525918745189590510238),
    (0.586087235467691130294144691693013, 0.169004726639267902826583426598550),
    (0.405845151377397166906606412076961, 0.190350578064785409913256402421014),
    (0.207784955007898467600689403773245, 0.204432940075298892414161999234649),
)
_KRONROD_15_CENTER = 0.209482141084727828012999174891714
_KRONROD_7 = (
    (0.960491268708020283423507092629080, 0.104656226026467265193823857192073),
    (0.774596669241483377035853079956480, 0.268488089868333440728569280666710),
    (0.434243749346802558002071502844628, 0.401397414775962222905051818618432),
)
_KRONROD_7_CENTER = 0.450916538658474142345110087045571


@lru_cache(maxsize=64)
def gauss_legendre(n: int) -> tuple[Array, Array]:
    """Nodes and weights of the n-point Gauss-Legendre rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return 0.5 * (1.0 + nodes), 0.5 * weights


@lru_cache(maxsize=2)
def _kronrod(n: int) -> tuple[Array, Array, Array]:
    """Nodes on [0, 1], Kronrod weights and embedded Gauss weights (0 off its nodes)."""
    x, w = np.array(_KRONROD_15 if n == 15 else _KRONROD_7).T
    center = _KRONROD_15_CENTER if n == 15 else _KRONROD_7_CENTER
    nodes = np.concatenate([-x, [0.0], x[::-1]])
    kronrod = np.concatenate([w, [center], w[::-1]])
    gauss = np.zeros(n)
    gauss[1::2] = np.polynomial.legendre.leggauss(n // 2)[1]
    return 0.5 * (1.0 + nodes), 0.5 * kronrod, 0.5 * gauss


def weighted(weight: Array, y: Array) -> Array:
    """weight * y, and 0 where the weight is 0 even if y is infinite there."""
    return np.where(weight > 0, weight * np.where(weight > 0, y, 0.0), 0.0)


def mean(weights: Array, y: Array) -> float:
    """Sum of weight * y, refusing NaN where there is weight."""
    value = float(np.sum(weighted(weights, y)))
    refuse_nan(value)
    return value


def refuse_nan(value: float) -> None:
    """ValueError when an integral is NaN."""
    if np.isnan(value):
        raise ValueError(
            "The function is NaN somewhere on the support of the measure; check its "
            "domain."
        )


def hat_rule(n: int, graded: bool) -> tuple[Array, Array]:
    """Rule with 2 n nodes for the density 1 - abs(z) on [-1, 1].

    ``graded`` clusters nodes at -1, 0 and 1, where the integrand may be singular.
    """
    u, w = gauss_legendre(n)
    half, weights = u, w * (1.0 - u)
    if graded:
        half = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
        weights = 30.0 * (u * (1.0 - u)) ** 2 * w * (1.0 - half)
    return np.concatenate([-half, half]), np.concatenate([weights, weights])


def panel_nodes(edges: Array, n: int) -> tuple[Array, Array]:
    """Nodes and weights (k n,) of the n-point Gauss rule on each of k panels."""
    u, w = gauss_legendre(n)
    width = np.diff(edges)
    nodes = edges[:-1, None] + width[:, None] * u
    return nodes.ravel(), (width[:, None] * w).ravel()


def adaptive(
    f: Callable[[Array, Array], Array],
    edges: Array,
    *,
    rtol: float = 1e-14,
    floor: Callable[[float], float] | None = None,
    budget: int = 4_000_000,
) -> float:
    """Integral of f over the panels between ``edges``, all panels refined at once.

    Each panel carries a Gauss-Kronrod pair and is halved until its error is below
    ``rtol`` times the integral of abs(f), so kinks and jumps inside cost one more
    level for each bit.

    Parameters
    ----------
    f : callable
        ``f(x, i)`` at nodes x (k, q), where i (k, 1) is the index of the panel of
        ``edges`` that each row lies in; returns (k, q).
    edges : (n+1,) array
        Increasing; empty panels are skipped.
    floor : callable, optional
        Absolute error of the total that rounding in f makes unavoidable, as a function
        of the integral of abs(f).
    budget : int
        Evaluations after which the estimate is returned if it is good to 1e-6.

    Returns
    -------
    float
        The integral; ``inf`` where f is.

    Raises
    ------
    ValueError
        When f is NaN, or when the budget is spent far from convergence.
    """
    a, b = edges[:-1], edges[1:]
    index = np.flatnonzero(b > a)
    a, b = a[index], b[index]
    order = 15 if index.size <= 4096 else 7
    share = min(1.0, 100.0 / max(index.size, 1))
    total = size = 0.0
    spent, most = 0, budget + 20 * index.size
    for level in range(DEPTH):
        value, absolute, error = kronrod_panels(f, a, b, index, order)
        spent += order * a.size
        finite = np.isfinite(absolute)
        scale = size + float(np.sum(absolute[finite]))
        allowed = rtol * share * scale + (share * floor(scale) if floor else 0.0)
        last = level == DEPTH - 1 or spent >= most
        # A singular point ceases to be a node after one halving; a region does not.
        keep = np.where(finite, error <= allowed, level >= SINGULAR)
        if last and not keep.all():
            _refuse_poor(float(np.sum(error[finite & ~keep])), scale)
            keep = np.ones_like(keep)
        total += float(np.sum(value[keep]))
        size += float(np.sum(absolute[keep & finite]))
        if keep.all():
            break
        a, b, index = a[~keep], b[~keep], index[~keep]
        middle = 0.5 * (a + b)
        a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        index = np.concatenate([index, index])
    refuse_nan(total)
    return total


def _refuse_poor(error: float, scale: float) -> None:
    if error > 1e-6 * scale:
        raise ValueError(
            f"The integral did not converge: error estimate {error:.2g} against "
            f"{scale:.2g}. The function is too rough or too singular for quadrature; "
            "take the mean over a sample, Empirical(measure.sample(n, rng))."
        )


def kronrod_panels(
    f: Callable[[Array, Array], Array], a: Array, b: Array, index: Array, order: int
) -> tuple[Array, Array, Array]:
    """Kronrod value, integral of abs(f) and error of every panel."""
    nodes, kronrod, gauss = _kronrod(order)
    value, absolute, error = (np.empty(a.size) for _ in range(3))
    rows = max(1, CHUNK // order)
    for start in range(0, a.size, rows):
        part = slice(start, start + rows)
        h = (b[part] - a[part])[:, None]
        y = f(a[part][:, None] + h * nodes, index[part][:, None])
        with np.errstate(invalid="ignore", over="ignore"):
            value[part] = h[:, 0] * (y @ kronrod)
            absolute[part] = h[:, 0] * (np.abs(y) @ kronrod)
            gap = h[:, 0] * np.abs(y @ (kronrod - gauss))
            # QUADPACK's calibration: the pair's gap overstates the error.
            ratio = np.minimum(200.0 * gap / absolute[part], 1.0)
            estimate = absolute[part] * ratio**1.5
        estimate = np.where(gap == 0.0, 0.0, estimate)
        error[part] = estimate
    return value, absolute, error


def evaluate(f: Callable[[Array], Array], x: Array) -> Array:
    """f at points x (.., d) with the shape of its result checked to be (..)."""
    y = f(x)
    if y is None:
        raise ValueError("The function returned None; did you forget `return`?")
    y = np.asarray(y, dtype=np.float64)
    if y.shape == x.shape[:-1]:
        return y
    if y.ndim == 0:
        return np.full(x.shape[:-1], float(y))
    raise ValueError(
        f"The function returned shape {y.shape} for points {x.shape}, expected "
        f"{x.shape[:-1]}: the last axis holds coordinates, x[..., 0] is the first."
    )


def pairs(
    place: Callable[[Array], Array],
    density: Callable[[Array], Array],
    edges: Array,
    g: Callable[[Array], Array],
    order: int = 12,
) -> float:
    """E g(X - Y) for independent X = place(Z), Y = place(Z'), Z of a given density.

    The panels next to a node are integrated by a rule graded towards it, so a kink or
    an integrable singularity of g at 0 costs no accuracy. Panels are halved until two
    values agree.
    """
    previous = value = np.nan
    for _ in range(4):
        value, scale = _pairs_once(place, density, edges, g, order)
        if abs(value - previous) <= 1e-11 * scale:
            break
        previous = value
        if edges.size > 800:
            break
        edges = np.sort(np.concatenate([edges, 0.5 * (edges[1:] + edges[:-1])]))
    if np.isnan(value):
        raise ValueError(
            "The interaction is NaN for some difference of points of the measure; "
            "check its domain."
        )
    return value


def _pairs_once(
    place: Callable[[Array], Array],
    density: Callable[[Array], Array],
    edges: Array,
    g: Callable[[Array], Array],
    order: int,
) -> tuple[float, float]:
    nodes, weights = panel_nodes(edges, order)
    weights = weights * density(nodes)
    points = place(nodes)
    count = edges.size - 1
    v, w = gauss_legendre(2 * order)
    total = size = 0.0
    for i in range(count):
        own = slice(i * order, (i + 1) * order)
        z, x = nodes[own, None], points[own, None]
        parts = []
        for far in (slice(0, max(i - 1, 0) * order), slice((i + 2) * order, None)):
            parts.append((points[None, far], weights[None, far]))
        near = [(z, edges[i] - z), (z, edges[i + 1] - z)]
        if i > 0:
            near.append((edges[i], edges[i - 1] - edges[i]))
        if i < count - 1:
            near.append((edges[i + 1], edges[i + 2] - edges[i + 1]))
        for start, reach in near:
            y = start + reach * v**4
            parts.append((place(y), np.abs(reach) * 4.0 * v**3 * w * density(y)))
        for y, mass in parts:
            values = evaluate(g, (x - y)[..., None])
            with np.errstate(invalid="ignore"):
                rows = np.sum(np.where(mass > 0, mass * values, 0.0), axis=1)
                total += float(weights[own] @ rows)
                size += float(weights[own] @ np.abs(rows))
    return total, size
