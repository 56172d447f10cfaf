"""Lengths of vectors, and the sets whose projections are found by sorting."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace
from flows.nonsmooth.base import ProxField, identity, shown
from flows.symbolic.fields import points

__all__ = ["L2", "Ball", "Linf", "Simplex", "ball_threshold", "simplex_threshold"]

Array = Any


def length(x: Array) -> Array:
    """Euclidean length along the last axis, which is kept; no overflow of squares."""
    xp = namespace(x)
    size = xp.max(xp.abs(x), axis=-1, keepdims=True)
    size = xp.where(size > 0.0, size, xp.ones_like(size))
    return size * xp.sqrt(xp.sum((x / size) ** 2, axis=-1, keepdims=True))


def outer(x: Array) -> Array:
    """x x^T along the last axis."""
    return x[..., :, None] * x[..., None, :]


def per_matrix(h: Any) -> Any:
    """A step (batch, 1) as (batch, 1, 1)."""
    return h[..., None] if getattr(h, "ndim", 0) else h


def counts(x: Array) -> Array:
    """1, 2, .., n in the library and dtype of x."""
    return array_like(np.arange(1, x.shape[-1] + 1), x)


def simplex_threshold(y: Array, total: Any) -> Array:
    """theta (.., 1) with sum (y_i - theta)_+ = total > 0.

    Of the k largest entries, (their sum - total)/k is at most theta, with equality for
    those above theta.
    """
    xp = namespace(y)
    ordered = xp.sort(y, axis=-1, descending=True)
    means = (xp.cumulative_sum(ordered, axis=-1) - total) / counts(y)
    return xp.max(means, axis=-1, keepdims=True)


def ball_threshold(y: Array, radius: Any) -> Array:
    """theta >= 0 with sum (y_i - theta)_+ = radius, or 0 where sum y <= radius."""
    theta = simplex_threshold(y, radius)
    xp = namespace(y)
    return xp.maximum(theta, xp.zeros_like(theta))


def onto_simplex(y: Array, total: Any) -> Array:
    """The closest point of {x >= 0, sum x = total}, total > 0."""
    xp = namespace(y)
    # A common shift changes nothing but the rounding of a large y.
    y = y - xp.max(y, axis=-1, keepdims=True)
    z = y - simplex_threshold(y, total)
    z = xp.maximum(z, xp.zeros_like(z))
    return z * (total / xp.sum(z, axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False, repr=False)
class L2(ProxField):
    """a abs(x), the Euclidean length."""

    a: float
    homogeneous = True
    radial = True
    exact = True

    def __repr__(self) -> str:
        return f"nonsmooth.l2({shown(self.a)})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return self.a * length(points(x))[..., 0]

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        r = length(x)
        pull = self.a * (x / xp.where(r > 0.0, r, xp.ones_like(r)))
        return xp.where(r > 0.0, g + pull, shortened(g, self.a))

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        r = length(x)
        safe = xp.where(r > 0.0, r, xp.ones_like(r))
        across = self.a * (identity(x) - outer(x / safe)) / safe[..., None]
        return xp.where(r[..., None] > 0.0, across, xp.zeros_like(across))

    def prox(self, x: Array, h: Any) -> Array:
        return shortened(x, h * self.a)

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        r = length(x)
        cut = h * self.a + xp.zeros_like(r)
        safe = xp.where(r > 0.0, r, xp.ones_like(r))
        part = (cut / safe)[..., None]
        inner = (1.0 - part) * identity(x) + part * outer(x / safe)
        return xp.where((r > cut)[..., None], inner, xp.zeros_like(inner))

    def scaled(self, factor: float) -> L2:
        return replace(self, a=factor * self.a)

    def expr(self, d: int) -> Any:
        """a sqrt(x1^2 + .. + xd^2)."""
        import sympy

        from flows.symbolic.vocabulary import coordinates, exact

        return exact(self.a) * sympy.sqrt(sum(x**2 for x in coordinates(d)))


def shortened(x: Array, by: Any) -> Array:
    """x made shorter by a length, down to 0."""
    xp = namespace(x)
    r = length(x)
    rest = xp.maximum(r - by, xp.zeros_like(r))
    return (rest / xp.where(r > 0.0, r, xp.ones_like(r))) * x


@dataclass(frozen=True, eq=False, repr=False)
class Linf(ProxField):
    """a max_i abs(x_i)."""

    a: float
    homogeneous = True
    exact = True

    def __repr__(self) -> str:
        return f"nonsmooth.linf({shown(self.a)})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        return self.a * xp.max(xp.abs(x), axis=-1)

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        size = xp.abs(x)
        largest = xp.max(size, axis=-1, keepdims=True)
        # A convex combination of the slopes at the entries that share the maximum.
        shared = (size == largest) & (largest > 0.0)
        against = xp.where(shared, -xp.sign(x) * g, xp.full_like(x, -math.inf))
        there = xp.sign(x) * onto_simplex_of(against, shared, self.a)
        at_zero = g - flattened(g, self.a)
        return xp.where(largest > 0.0, g + there, at_zero)

    def prox(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        theta = ball_threshold(xp.abs(x), h * self.a)
        return xp.sign(x) * xp.minimum(xp.abs(x), theta)

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        theta = ball_threshold(xp.abs(x), h * self.a)
        one = xp.ones_like(x)
        cut = xp.where(xp.abs(x) > theta, one, 0.0 * one)
        inside = theta <= 0.0
        number = xp.sum(cut, axis=-1, keepdims=True)
        s = xp.sign(x) * cut
        joint = outer(s) / xp.where(number > 0, number, one[..., :1])[..., None]
        free = (1.0 - cut)[..., None] * identity(x)
        return xp.where(inside[..., None], xp.zeros_like(joint), free + joint)

    def scaled(self, factor: float) -> Linf:
        return replace(self, a=factor * self.a)


def flattened(y: Array, radius: Any) -> Array:
    """The closest point of the ball {sum abs(x_i) <= radius}."""
    xp = namespace(y)
    z = xp.abs(y) - ball_threshold(xp.abs(y), radius)
    return xp.sign(y) * xp.maximum(z, xp.zeros_like(z))


def onto_simplex_of(y: Array, mask: Array, total: Any) -> Array:
    """Projection on the simplex of the entries in ``mask``; the others are -inf."""
    xp = namespace(y)
    theta = simplex_threshold(y, total)
    theta = xp.where(xp.isfinite(theta), theta, xp.zeros_like(theta))
    z = xp.where(mask, y - theta, xp.zeros_like(y))
    return xp.maximum(z, xp.zeros_like(z))


@dataclass(frozen=True, eq=False, repr=False)
class Ball(ProxField):
    """0 where abs(x - center) <= radius, else infinite."""

    radius: float
    center: np.ndarray
    exact = True

    def __repr__(self) -> str:
        at = f", {shown(self.center)}" if self.center.any() else ""
        return f"nonsmooth.ball({shown(self.radius)}{at})"

    @property
    def dimension(self) -> int | None:
        """Coordinates of the points; None for any number."""
        return self.center.shape[0] if self.center.ndim else None

    @property
    def radial(self) -> bool:
        """Whether the ball is around 0."""
        return not self.center.any()

    def _from_center(self, x: Array) -> tuple[Array, Array]:
        self.check_dimension(x.shape[-1])
        z = x - array_like(self.center, x)
        return z, length(z)

    def _rounding(self, x: Array) -> float:
        size = self.radius + float(np.abs(self.center).max())
        return 8.0 * float(np.finfo(dtype_name(x)).eps) * size

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        r = self._from_center(x)[1][..., 0]
        # The projection of a point may lie outside by rounding.
        inside = r <= self.radius + self._rounding(x)
        none = xp.zeros_like(r)
        return xp.where(inside, none, xp.full_like(none, math.inf))

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        z, r = self._from_center(x)
        if self.radius == 0.0:
            return xp.zeros_like(g)
        normal = z / xp.where(r > 0.0, r, xp.ones_like(r))
        out = -xp.sum(g * normal, axis=-1, keepdims=True)
        edge = (r >= self.radius - self._rounding(x)) & (out > 0.0)
        return xp.where(edge, g + out * normal, g)

    def prox(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        z, r = self._from_center(x)
        safe = xp.where(r > self.radius, r, xp.ones_like(r))
        edge = array_like(self.center, x) + (self.radius / safe) * z
        return xp.where(r > self.radius, edge, x)

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        z, r = self._from_center(x)
        safe = xp.where(r > 0.0, r, xp.ones_like(r))
        eye = identity(x)
        outside = (self.radius / safe)[..., None] * (eye - outer(z / safe))
        return xp.where((r > self.radius)[..., None], outside, eye + 0.0 * outside)

    def scaled(self, factor: float) -> Ball:
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Simplex(ProxField):
    """0 where x >= 0 and sum x = total, else infinite."""

    total: float = 1.0
    exact = True

    def __repr__(self) -> str:
        return f"nonsmooth.simplex({'' if self.total == 1.0 else shown(self.total)})"

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        xp = namespace(x)
        # The projection of a point has this sum to rounding only.
        slack = 8 * x.shape[-1] * float(np.finfo(dtype_name(x)).eps) * self.total
        near = xp.abs(xp.sum(x, axis=-1) - self.total) <= slack
        inside = near & xp.all(x >= 0.0, axis=-1)
        none = xp.zeros_like(x[..., 0])
        return xp.where(inside, none, xp.full_like(none, math.inf))

    def least(self, x: Array, g: Array) -> Array:
        xp = namespace(x)
        free = x > 0.0
        none = xp.zeros_like(g)
        one = xp.ones_like(g)
        count = xp.sum(xp.where(free, one, none), axis=-1, keepdims=True)
        base = xp.sum(xp.where(free, -g, none), axis=-1, keepdims=True)
        bound = xp.where(free, xp.full_like(g, -math.inf), -g)
        ordered = xp.sort(bound, axis=-1, descending=True)
        means = (base + xp.cumulative_sum(ordered, axis=-1)) / (count + counts(g))
        first = base / xp.where(count > 0, count, one[..., :1])
        first = xp.where(count > 0, first, xp.full_like(first, -math.inf))
        level = xp.maximum(first, xp.max(means, axis=-1, keepdims=True))
        d = -g - level
        return -xp.where(free, d, xp.maximum(d, none))

    def prox(self, x: Array, h: Any) -> Array:
        return onto_simplex(x, self.total)

    def derivative(self, x: Array, h: Any) -> Array:
        xp = namespace(x)
        one = xp.ones_like(x)
        alive = xp.where(onto_simplex(x, self.total) > 0.0, one, 0.0 * one)
        number = xp.sum(alive, axis=-1, keepdims=True)[..., None]
        return alive[..., None] * identity(x) - outer(alive) / number

    def scaled(self, factor: float) -> Simplex:
        return self
