r"""Wasserstein distances on the line, where transport is sorting.

.. math:: W_p^p(\mu, \nu) = \int_0^1 |Q_\mu(s) - Q_\nu(s)|^p \, ds

with the quantile functions Q. Where both are linear on pieces the integral is a finite
sum; otherwise the levels are written s = Phi(z), which resolves both tails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import Empirical, Gaussian
from flows.measures.base import NORMAL_PANELS, Pieces, normal_density
from flows.measures.quadrature import adaptive

if TYPE_CHECKING:
    from flows.measures import Measure

__all__ = ["between", "from_sorted"]

Array = Any


def between(mu: Measure, nu: Measure, p: float) -> float:
    """W_p between measures on the line: exact for pieces and Gaussians, else 1e-10."""
    if isinstance(mu, Gaussian) and isinstance(nu, Gaussian):
        shift, spread = mu.mean - nu.mean, mu.std - nu.std
        if spread == 0.0:
            return float(abs(shift))
        if p == 2:
            return float(np.hypot(shift, spread))
    if isinstance(mu, Empirical) and isinstance(nu, Empirical):
        equal = mu.weights is None and nu.weights is None
        if equal and mu.points.shape == nu.points.shape:
            x, y = (np.sort(m.points[:, 0]) for m in (mu, nu))
            return from_sorted(x, y, p)
    first, second = mu.pieces(), nu.pieces()
    if first is not None and second is not None:
        return between_pieces(first, second, p)
    if second is not None:
        return _smooth(nu, second, mu, p)
    return _smooth(mu, first, nu, p)


def from_sorted(x: Array, y: Array, p: float) -> float:
    """W_p of two sorted samples (n,) with equal weights."""
    return _root(np.abs(x - y), np.full(x.size, 1.0 / x.size), p)


def _pth_root(value: float, p: float) -> float:
    return float(max(value, 0.0) ** (1.0 / p))


def _root(gaps: Array, weights: Array, p: float) -> float:
    """(sum_i w_i gaps_i^p)^(1/p) without overflow."""
    largest = float(gaps.max(initial=0.0))
    if largest == 0.0:
        return 0.0
    return _pth_root(float(weights @ (gaps / largest) ** p), p) * largest


def between_pieces(first: Pieces, second: Pieces, p: float) -> float:
    """W_p of two piecewise linear quantile functions, in closed form.

    Levels below and above 1/2 are counted from their own end: there a cumulative sum
    keeps pieces that are lighter than the spacing of numbers near 1.
    """
    halves = [
        _differences(first, second),
        _differences(first.mirrored(), second.mirrored()),
    ]
    width, start, end = (np.concatenate(column) for column in zip(*halves, strict=True))
    return _root(*_segment_means(start, end, width, p))


def _differences(first: Pieces, second: Pieces) -> tuple[Array, Array, Array]:
    """Widths of the merged levels in (0, 1/2] and the gap at both ends of each."""
    tables = [_lower_half(first), _lower_half(second)]
    marks = np.concatenate([c for c, _, _ in tables])
    marks.sort(kind="stable")
    s, t = marks[:-1], marks[1:]
    # Cumulative sums of one law in two ways differ by rounding, which is not a gap.
    used = t - s > 8.0 * np.finfo(float).eps * t
    s, t = s[used], t[used]
    start, end = 0.0, 0.0
    for sign, (c, left, right) in zip((1.0, -1.0), tables, strict=True):
        i = np.searchsorted(c, s, "right") - 1
        size = c[i + 1] - c[i]
        for level, side in ((s, 0), (t, 1)):
            # Both ends are taken in the piece of the segment, or a jump is missed.
            value = left[i] + (right[i] - left[i]) * ((level - c[i]) / size)
            value = np.where(level == c[i + 1], right[i], value)
            if side == 0:
                start = start + sign * value
            else:
                end = end + sign * value
    return t - s, start, end


def _lower_half(pieces: Pieces) -> tuple[Array, Array, Array]:
    """Cumulative levels 0 .. 1/2 and the ends of the pieces between them."""
    c = np.cumsum(pieces.weights)
    # The level 1/2 is reached even if the sum rounds below 1.
    k = min(int(np.searchsorted(c, 0.5, "left")), c.size - 1)
    previous = c[k - 1] if k else 0.0
    part = min((0.5 - previous) / pieces.weights[k], 1.0)
    a, b = pieces.left[: k + 1], pieces.right[: k + 1].copy()
    b[k] = a[k] + part * (b[k] - a[k])
    c = np.concatenate([[0.0], c[:k], [0.5]])
    # Pieces of no width in floating point carry no mass that the sum can see.
    keep = np.diff(c) > 0
    return np.concatenate([[0.0], c[1:][keep]]), a[keep], b[keep]


def _segment_means(
    start: Array, end: Array, width: Array, p: float
) -> tuple[Array, Array, float]:
    """Gaps whose p-th powers are the means over segments of a linear gap.

    With u, v the absolute gaps at the ends of a segment, the mean of the p-th power is
    (v^(p+1) - u^(p+1)) / ((p+1)(v - u)), or with + throughout where the sign changes.
    """
    u, v = np.abs(start), np.abs(end)
    big, small = np.maximum(u, v), np.minimum(u, v)
    total = u + v
    safe = np.where(total > 0, total, 1.0)
    crossing = np.sign(start) * np.sign(end) < 0
    if p == 1:
        mean = 0.5 * total
        cross = (big / safe) * big + (small / safe) * small
        return np.where(crossing, 0.5 * cross, mean), width, p
    ratio = np.where(big > 0, small / np.where(big > 0, big, 1.0), 1.0)
    if p == 2:
        sign = np.where(crossing, -1.0, 1.0)
        power = (1.0 + sign * ratio + ratio**2) / 3.0
    else:
        # (1 - q^(p+1)) / (1 - q) for q near 1 through expm1 and log.
        log = np.log(np.where(ratio > 0, ratio, 1.0))
        gap = np.where(ratio < 1.0, 1.0 - ratio, 1.0)
        top = np.where(ratio > 0, -np.expm1((p + 1.0) * log), 1.0)
        same = np.where(ratio < 1.0, top / gap / (p + 1.0), 1.0)
        cross = (1.0 + ratio ** (p + 1.0)) / (1.0 + ratio) / (p + 1.0)
        power = np.where(crossing, cross, same)
    return big * power ** (1.0 / p), width, p


def _smooth(mu: Measure, pieces: Pieces | None, nu: Measure, p: float) -> float:
    """W_p by adaptive quadrature; ``pieces`` belong to mu if it has them."""
    first = _Map(mu) if pieces is None else _PieceMap(pieces)
    edges = first.edges

    def gap(z: Array, i: Array) -> Array:
        return np.abs(first.at(z, i) - nu.from_normal(z))

    middle = 0.5 * (edges[1:] + edges[:-1])[:, None]
    panel = np.arange(edges.size - 1)[:, None]
    unit = float(np.max(gap(middle, panel))) or 1.0
    bulk = np.abs(middle[:, 0]) < 6.0
    size = np.max(np.abs(first.at(middle, panel)[bulk])) + unit
    rounding = 32.0 * float(np.finfo(float).eps * size) / unit

    def floor(total: float) -> float:
        # Rounding of the quantiles moves W by `rounding`, hence W^p by this much.
        return float(p * max(total ** (1 / p), rounding) ** (p - 1) * rounding)

    def cost(z: Array, i: Array) -> Array:
        return normal_density(z) * (gap(z, i) / unit) ** p

    total = adaptive(cost, edges, floor=floor)
    return _pth_root(total, p) * unit


class _Map:
    """Increasing map from a standard normal variable to a measure."""

    def __init__(self, mu: Measure) -> None:
        self.mu = mu
        self.edges = NORMAL_PANELS

    def at(self, z: Array, panel: Array) -> Array:
        return self.mu.from_normal(z)


class _PieceMap(_Map):
    """The same for a piecewise linear quantile function, panels within pieces."""

    def __init__(self, pieces: Pieces) -> None:
        from scipy.special import ndtri

        self.pieces = pieces
        w = pieces.weights
        self.below = np.concatenate([[0.0], np.cumsum(w)])
        self.above = np.concatenate([np.cumsum(w[::-1])[::-1], [0.0]])
        low = self.below <= self.above
        z = np.where(
            low,
            ndtri(np.where(low, self.below, 0.5)),
            -ndtri(np.where(low, 0.5, self.above)),
        )
        z = np.maximum.accumulate(np.clip(z, NORMAL_PANELS[0], NORMAL_PANELS[-1]))
        self.edges = np.unique(np.concatenate([z, NORMAL_PANELS]))
        owner = np.searchsorted(z, self.edges[:-1], "right") - 1
        self.owner = np.clip(owner, 0, w.size - 1)
        self.atoms_only = bool((pieces.left == pieces.right).all())

    def at(self, z: Array, panel: Array) -> Array:
        from scipy.special import ndtr

        i = self.owner[panel]
        a = self.pieces.left[i]
        if self.atoms_only:
            return np.broadcast_to(a, z.shape)
        b, w = self.pieces.right[i], self.pieces.weights[i]
        # Counted from the nearer end of the line, where levels keep their digits.
        up = np.clip((ndtr(z) - self.below[i]) / w, 0.0, 1.0)
        down = np.clip((ndtr(-z) - self.above[i + 1]) / w, 0.0, 1.0)
        return np.where(z < 0, a + up * (b - a), b - down * (b - a))
