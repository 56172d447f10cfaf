"""The mirror map of a p-norm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.arrays import dtype_name, namespace
from flows.spaces.mirror_maps import BuiltIn, diagonal

__all__ = ["PNorm"]

Array = Any


@dataclass(frozen=True)
class PNorm(BuiltIn):
    """phi = |x|_p^2 / 2 on R^n, p > 1; the inverse is the same map with p/(p - 1).

    References
    ----------
    C. Gentile, The robustness of the p-norm algorithms, Mach. Learn. 53 (2003),
    doi:10.1023/A:1026319107706.
    """

    p: float
    name: str = field(init=False, default="", repr=False)

    def __post_init__(self) -> None:
        p = self.p
        if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
            raise TypeError(f"`p` must be a number above 1, got {p!r}.")
        if not 1.0 < p < math.inf:
            raise ValueError(f"`p` must be above 1 and finite, got {p}.")
        object.__setattr__(self, "p", float(p))
        object.__setattr__(self, "name", f"p_norm({self.p:g})")

    @property
    def q(self) -> float:
        """The conjugate exponent."""
        return self.p / (self.p - 1.0)

    def value(self, x: Array) -> Array:
        return 0.5 * scaled(x, self.p)[1][..., 0] ** 2

    def gradient(self, x: Array) -> Array:
        y, size = scaled(x, self.p)
        return size * signed_power(y, self.p - 1.0)

    def inverse(self, z: Array) -> Array:
        y, size = scaled(z, self.q)
        return size * signed_power(y, self.q - 1.0)

    def divergence(self, v: Array, u: Array) -> Array:
        """|v|^2/2 + |u|^2/2 - <grad phi(u), v>, norms with p."""
        fall = namespace(u).sum(self.gradient(u) * v, axis=-1)
        return self.value(v) + self.value(u) - fall

    def _parts(self, z: Array) -> tuple[Array, Array]:
        """diag and w of Hess phi* = diag((q-1)|y|^{q-2}) + (2-q) w w^T."""
        y = scaled(z, self.q)[0]
        # For q < 2 the second derivative is infinite at 0: a large number instead.
        small = np.finfo(dtype_name(z)).eps ** 2
        steep = namespace(z).clip(namespace(z).abs(y), min=float(small))
        diag = (self.q - 1.0) * steep ** (self.q - 2.0)
        return diag, signed_power(y, self.q - 1.0)

    def root(self, z: Array) -> Array:
        xp = namespace(z)
        diag, w = self._parts(z)
        D = diagonal(diag) + (2.0 - self.q) * w[..., :, None] * w[..., None, :]
        values, vectors = xp.linalg.eigh(D)
        return vectors * xp.sqrt(xp.clip(values, min=0.0))[..., None, :]

    def applied(self, z: Array, a: Array) -> Array:
        diag, w = self._parts(z)
        inner = namespace(z).sum(w * a, axis=-1, keepdims=True)
        return diag * a + (2.0 - self.q) * inner * w

    def distance(self, x: Array, y: Array) -> Array:
        """sqrt(<grad phi(x) - grad phi(y), x - y>), shape (..)."""
        xp = namespace(x)
        both = xp.sum((self.gradient(x) - self.gradient(y)) * (x - y), axis=-1)
        return xp.sqrt(xp.clip(both, min=0.0))

    def problem(self, x: Array) -> str | None:
        return None


def scaled(x: Array, p: float) -> tuple[Array, Array]:
    """x / |x|_p and |x|_p along the last axis, which is kept; 0 gives 0."""
    xp = namespace(x)
    m = xp.max(xp.abs(x), axis=-1, keepdims=True)
    y = x / xp.where(m > 0, m, xp.ones_like(m))
    size = xp.sum(xp.abs(y) ** p, axis=-1, keepdims=True) ** (1.0 / p)
    return y / xp.where(size > 0, size, xp.ones_like(size)), m * size


def signed_power(y: Array, a: float) -> Array:
    """sign(y) |y|^a."""
    xp = namespace(y)
    return xp.sign(y) * xp.abs(y) ** a
