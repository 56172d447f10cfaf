"""The cost of a move: what makes one energy flow in different geometries.

Every step here is a minimizing movement from u in the time h:

    v = argmin_v F(v) + cost(u, v, h)              (implicit: proximal, JKO)
    v = argmin_v <g, v - u> + cost(u, v, h)        (explicit: g the gradient at u)

=====================  ======================================  =======================
the explicit step is   cost(u, v, h)                           ``cost`` of the space
=====================  ======================================  =======================
gradient descent       abs(v - u)_2^2 / 2h                     NormCost(L2())
natural gradient       (v - u).M(v - u) / 2h                   NormCost(MetricNorm(M))
coordinate descent     abs(v - u)_1^2 / 2h                     NormCost(L1())
sign descent           abs(v - u)_inf^2 / 2h                   NormCost(Linf())
spectral descent       sigma_max(v - u)^2 / 2h                 NormCost(Spectral())
steps of length h      0 where norm(v - u) <= h, else inf      NormCost(.., True)
mirror descent         (phi(v) - phi(u) - dphi(u)(v - u)) / h  BregmanCost(phi)
=====================  ======================================  =======================

Euclidean, SteepestDescent and Mirror have their ``cost``: explicit Euler is its
``step``, and the proximal step, where there is one, minimizes F + cost.
A norm has a dual norm |g|_* = max <g, d> over norm(d) <= 1, attained at d(g). The
explicit step is then u - h |g|_* d(g), or u - h d(g) where the length is h, and the
linear model falls by h times the conjugate cost psi*(g), which is |g|_*^2/2 or |g|_*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.spaces.metrics import as_metric

__all__ = [
    "L1",
    "L2",
    "BregmanCost",
    "Linf",
    "MetricNorm",
    "Norm",
    "NormCost",
    "Spectral",
    "linear_model",
]

Array = Any


class Norm:
    """A norm of displacements (.., n), its dual norm and the steepest direction.

    ``shape`` is that of the states where they are matrices, else None; ``hilbert``
    tells whether the norm comes from an inner product.
    """

    shape: tuple[int, int] | None = None
    hilbert: bool = False

    def value(self, d: Array) -> Array:
        """Norm of displacements (.., n), shape (..)."""
        raise NotImplementedError

    def dual(self, g: Array) -> Array:
        """Largest <g, d> over norm(d) <= 1, shape (..)."""
        raise NotImplementedError

    def direction(self, g: Array) -> Array:
        """d(g) (.., n) with norm(d) = 1 and <g, d> = |g|_*; 0 where g is 0."""
        raise NotImplementedError

    def size_error(self, n: int) -> str | None:
        """What is wrong with states of n coordinates, or None."""
        return None


def largest(g: Array) -> Array:
    """Largest absolute entry along the last axis, which is kept."""
    xp = namespace(g)
    return xp.max(xp.abs(g), axis=-1, keepdims=True)


def length(g: Array) -> Array:
    """Euclidean length along the last axis, which is kept.

    Scaled, because the squares of small entries underflow.
    """
    xp = namespace(g)
    m = largest(g)
    safe = xp.where(m > 0, m, xp.ones_like(m))
    return m * xp.sqrt(xp.sum((g / safe) ** 2, axis=-1, keepdims=True))


def divided(g: Array, size: Array) -> Array:
    """g / size, and 0 where the size is 0."""
    xp = namespace(g)
    return g / xp.where(size > 0, size, xp.ones_like(size))


@dataclass(frozen=True)
class L1(Norm):
    """|d|_1: the steepest direction moves the coordinate of the largest slope.

    Coordinates that tie share the step evenly, so equal ones stay equal.
    """

    def value(self, d: Array) -> Array:
        xp = namespace(d)
        return xp.sum(xp.abs(d), axis=-1)

    def dual(self, g: Array) -> Array:
        return largest(g)[..., 0]

    def direction(self, g: Array) -> Array:
        xp = namespace(g)
        top = xp.where(xp.abs(g) == largest(g), xp.sign(g), xp.zeros_like(g))
        return divided(top, xp.sum(xp.abs(top), axis=-1, keepdims=True))

    def __repr__(self) -> str:
        return "l1()"


@dataclass(frozen=True)
class L2(Norm):
    """|d|_2: the normalized gradient."""

    hilbert = True

    def value(self, d: Array) -> Array:
        return length(d)[..., 0]

    def dual(self, g: Array) -> Array:
        return length(g)[..., 0]

    def direction(self, g: Array) -> Array:
        return divided(g, length(g))

    def __repr__(self) -> str:
        return "l2()"


@dataclass(frozen=True)
class Linf(Norm):
    """max_i |d_i|: the sign of the gradient, 0 where an entry is 0."""

    def value(self, d: Array) -> Array:
        return largest(d)[..., 0]

    def dual(self, g: Array) -> Array:
        xp = namespace(g)
        return xp.sum(xp.abs(g), axis=-1)

    def direction(self, g: Array) -> Array:
        return namespace(g).sign(g)

    def __repr__(self) -> str:
        return "linf()"


@dataclass(frozen=True)
class Spectral(Norm):
    """Largest singular value of matrices (n, k), whose entries are the coordinates.

    The dual norm is the nuclear norm, the direction U V^T of g = U S V^T without the
    singular values that are 0 to rounding.
    """

    n: int
    k: int

    def __post_init__(self) -> None:
        check_sizes(self.n, self.k)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return (self.n, self.k)

    def _singular(self, d: Array) -> tuple[Array, Array, Array]:
        xp = namespace(d)
        matrices = xp.reshape(d, (*d.shape[:-1], self.n, self.k))
        result: tuple[Array, Array, Array] = xp.linalg.svd(
            matrices, full_matrices=False
        )
        return result

    def value(self, d: Array) -> Array:
        return self._singular(d)[1][..., 0]

    def dual(self, g: Array) -> Array:
        return namespace(g).sum(self._singular(g)[1], axis=-1)

    def direction(self, g: Array) -> Array:
        xp = namespace(g)
        U, s, Vh = self._singular(g)
        cut = max(self.n, self.k) * float(np.finfo(dtype_name(g)).eps) * s[..., :1]
        kept = xp.where(s > cut, xp.ones_like(s), xp.zeros_like(s))
        return xp.reshape(xp.matmul(U * kept[..., None, :], Vh), g.shape)

    def size_error(self, n: int) -> str | None:
        return None if n == self.n * self.k else f"{n} entries are no {self.shape}"

    def __repr__(self) -> str:
        return f"spectral({self.n}, {self.k})"


@dataclass(frozen=True, eq=False)
class MetricNorm(Norm):
    """sqrt(d.M d): the steepest direction is M^{-1} g, normalized.

    Parameters
    ----------
    metric : Metric, number, (n,) or (n, n) array
        Symmetric, positive definite and constant; a vector is a diagonal.
    """

    metric: Any
    hilbert = True

    def __post_init__(self) -> None:
        metric = as_metric(self.metric)
        if metric is None or not metric.constant:
            raise TypeError(
                f"`metric` of a norm must be constant, got {self.metric!r}; a metric "
                "that depends on the point is Euclidean(metric=...)."
            )
        object.__setattr__(self, "metric", metric)

    def value(self, d: Array) -> Array:
        xp = namespace(d)
        return xp.sqrt(xp.sum(d * self.metric.apply(d, d), axis=-1))

    def dual(self, g: Array) -> Array:
        xp = namespace(g)
        return xp.sqrt(xp.sum(g * self.metric.solve(g, g), axis=-1))

    def direction(self, g: Array) -> Array:
        unit = L2().direction(g)
        step = self.metric.solve(g, unit)
        size = namespace(g).sum(unit * step, axis=-1, keepdims=True)
        return divided(step, namespace(g).sqrt(size))

    def size_error(self, n: int) -> str | None:
        try:
            self.metric.check(n)
        except ValueError as error:
            return str(error)
        return None

    def __repr__(self) -> str:
        return f"metric({self.metric!r})"


def check_sizes(n: Any, k: Any) -> None:
    """Refuse sizes of matrices that are no positive integers."""
    for name, size in (("n", n), ("k", k)):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"`{name}` must be an integer, got {size!r}.")
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1, got {size}.")


@dataclass(frozen=True, eq=False)
class NormCost:
    """norm(v - u)^2 / 2h, or, with ``unit_speed``, 0 where norm(v - u) <= h, else inf.

    h psi((v - u)/h) with psi = norm^2/2, or psi the indicator of the unit ball.
    """

    norm: Norm
    unit_speed: bool = False

    def value(self, u: Array, v: Array, h: float) -> Array:
        """Cost of the move from u to v in the time h, shape (..)."""
        xp = namespace(u)
        size = self.norm.value(v - u)
        if not self.unit_speed:
            return size**2 / (2.0 * h)
        slack = 1.0 + 64 * float(np.finfo(dtype_name(u)).eps)
        reached = size <= h * slack
        return xp.where(reached, xp.zeros_like(size), xp.full_like(size, np.inf))

    def conjugate(self, g: Array) -> Array:
        """psi*(g): the rate at which the linear model falls, shape (..)."""
        dual = self.norm.dual(g)
        return dual if self.unit_speed else 0.5 * dual**2

    def velocity(self, g: Array) -> Array:
        """The steepest velocity -dpsi*(g): of all, <g, x'> + psi(x') is least."""
        d = self.norm.direction(g)
        return -d if self.unit_speed else -self.norm.dual(g)[..., None] * d

    def dissipation(self, g: Array) -> Array:
        """-dF/dt along the flow: |g|_*^2, or |g|_* at unit speed."""
        dual = self.norm.dual(g)
        return dual if self.unit_speed else dual**2

    def step(self, u: Array, g: Array, h: float) -> Array:
        """argmin_v <g, v - u> + cost(u, v, h)."""
        return u + h * self.velocity(g)


@dataclass(frozen=True, eq=False)
class BregmanCost:
    """D(v, u)/h with the Bregman divergence of a mirror map, convex in v.

    References
    ----------
    A. Beck, M. Teboulle, Mirror descent and nonlinear projected subgradient methods
    for convex optimization, Oper. Res. Lett. 31 (2003),
    doi:10.1016/S0167-6377(02)00231-6.
    """

    map: Any

    def value(self, u: Array, v: Array, h: float) -> Array:
        """D(v, u)/h, shape (..)."""
        return self.map.divergence(v, u) / h

    def step(self, u: Array, g: Array, h: float) -> Array:
        """argmin_v <g, v - u> + D(v, u)/h = grad phi*(grad phi(u) - h g)."""
        return self.map.inverse(self.map.center(self.map.gradient(u) - h * g))


def linear_model(cost: Any, u: Array, v: Array, g: Array, h: float) -> Array:
    """<g, v - u> + cost(u, v, h), which the explicit step minimizes, shape (..)."""
    return namespace(u).sum(g * (v - u), axis=-1) + cost.value(u, v, h)
