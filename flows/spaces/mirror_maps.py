"""Mirror maps: convex functions whose gradient is a chart of their domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import (
    all_finite,
    array_like,
    dtype_name,
    first_nonfinite,
    namespace,
    to_numpy,
)
from flows.symbolic import CallableField

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BuiltIn", "Burg", "Entropy", "MirrorMap", "Simplex", "diagonal"]

Array = Any


@dataclass(frozen=True, eq=False)
class MirrorMap:
    """A strictly convex phi with the inverse of its gradient, at points (.., n).

    Parameters
    ----------
    value : callable
        phi(x), shape (..).
    gradient : callable
        grad phi(x), shape (.., n).
    inverse : callable
        grad phi*(z): the x with grad phi(x) = z, shape (.., n).
    hessian : callable, optional
        Shape (.., n, n); by default central differences of ``gradient``.
    name : str
        Shown by ``repr``.

    Raises
    ------
    TypeError
        For what is not callable.
    """

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    hessian: Callable[[Array], Array] | None = None
    name: str = "phi"

    def __post_init__(self) -> None:
        for name in ("value", "gradient", "inverse", "hessian"):
            function = getattr(self, name)
            if not callable(function) and not (name == "hessian" and function is None):
                raise TypeError(
                    f"`{name}` of a MirrorMap must be callable(x), got {function!r}."
                )

    @cached_property
    def _field(self) -> CallableField:
        return CallableField(
            self.value, gradient=self.gradient, hessian=self.hessian, name=self.name
        )

    def __repr__(self) -> str:
        return f"MirrorMap({self.name})"

    def divergence(self, v: Array, u: Array) -> Array:
        """phi(v) - phi(u) - <grad phi(u), v - u>, shape (..)."""
        fall = namespace(u).sum(self.gradient(u) * (v - u), axis=-1)
        return self.value(v) - self.value(u) - fall

    def center(self, z: Array) -> Array:
        """z without what does not move the point."""
        return z

    def inside(self, z: Array) -> Array:
        """Whether z (.., n) is the gradient of phi somewhere, shape (..)."""
        xp = namespace(z)
        return xp.all(xp.isfinite(self.inverse(z)), axis=-1)

    def root(self, z: Array) -> Array:
        """L (.., n, n) with L L^T = Hess phi*(z)."""
        xp = namespace(z)
        values, vectors = xp.linalg.eigh(self._field.hessian(self.inverse(z)))
        return vectors / xp.sqrt(values)[..., None, :]

    def applied(self, z: Array, a: Array) -> Array:
        """Hess phi*(z) a (.., n): how the point moves when z moves by a."""
        H = self._field.hessian(self.inverse(z))
        return namespace(z).linalg.solve(H, a[..., None])[..., 0]

    def distance(self, x: Array, y: Array) -> Array:
        """sqrt(<grad phi(x) - grad phi(y), x - y>), shape (..)."""
        xp = namespace(x)
        both = xp.sum((self.gradient(x) - self.gradient(y)) * (x - y), axis=-1)
        return xp.sqrt(xp.clip(both, min=0.0))

    def problem(self, x: Array) -> str | None:
        """What is wrong with a start x, or None: the maps must undo each other."""
        self._field.probe(x)
        z = self.gradient(x)
        if not all_finite(z):
            index = first_nonfinite(z)[1]
            return (
                f"`gradient` of {self!r} is not finite at index {index} of `u0`; "
                "start inside the domain of phi."
            )
        xp = namespace(x)
        back = self.inverse(z)
        if tuple(np.shape(back)) != tuple(x.shape):
            return (
                f"`inverse` of {self!r} returned shape {tuple(np.shape(back))} for "
                f"{tuple(x.shape)}; they must be equal."
            )
        eps = float(np.finfo(dtype_name(x)).eps)
        gap, size = float(xp.max(xp.abs(back - x))), float(xp.max(xp.abs(x)))
        if not gap <= 1e4 * eps * max(size, eps):
            return (
                f"`inverse(gradient(u0))` of {self!r} is {gap:.3g} away from `u0`; "
                "`inverse` must be the gradient of the conjugate of phi."
            )
        wrong = self._slope_error(x, z)
        if not wrong <= 1e4 * eps ** (2 / 3):
            return (
                f"`gradient` of {self!r} is not the gradient of its `value`: slopes "
                f"at `u0` differ by {wrong:.3g} of their size."
            )
        return None

    def _slope_error(self, x: Array, z: Array) -> float:
        """Relative difference of <z, d> and a central difference of phi along d."""
        xp = namespace(x)
        e = float(np.finfo(dtype_name(x)).eps) ** (1 / 3)
        # Moves in proportion to the entries do not leave a positive domain.
        reach = xp.where(x == 0, xp.ones_like(x), xp.abs(x))
        d = reach * array_like(np.cos(1.0 + np.arange(x.shape[-1])), x)
        change = (self.value(x + e * d) - self.value(x - e * d)) / (2.0 * e)
        slope = xp.sum(z * d, axis=-1)
        size = xp.sum(xp.abs(z * d), axis=-1) + xp.abs(self.value(x))
        return float(xp.max(xp.abs(change - slope) / (size + e)))


def least(x: Array) -> float:
    """The smallest normal number: its logarithm and its inverse are finite."""
    return float(np.finfo(dtype_name(x)).tiny)


def positive(x: Array) -> Array:
    """x with entries that underflowed to 0 rounded up to the smallest number."""
    return namespace(x).clip(x, min=least(x))


def low_entry(x: Array, where: str) -> str | None:
    """Sentence about an entry that is not positive."""
    values = to_numpy(x)
    if (values > 0).all():
        return None
    i = np.unravel_index(int(np.argmin(values)), values.shape)
    index = ", ".join(map(str, map(int, i)))
    return (
        f"`u0` must lie inside {where}, but u0[{index}] = {values[i]:g}; start with "
        "positive entries (one that is 0 would stay 0: leave it out)."
    )


class BuiltIn:
    """What the named maps share: their functions are methods."""

    def center(self, z: Array) -> Array:
        """z without what does not move the point."""
        return z

    def inside(self, z: Array) -> Array:
        """Whether z (.., n) is the gradient of phi somewhere, shape (..)."""
        xp = namespace(z)
        return xp.all(xp.isfinite(z), axis=-1)


@dataclass(frozen=True)
class Entropy(BuiltIn):
    """phi = sum_i x_i log x_i - x_i on positive x: grad phi = log x."""

    name = "positive()"

    def value(self, x: Array) -> Array:
        xp = namespace(x)
        return xp.sum(x * xp.log(positive(x)) - x, axis=-1)

    def gradient(self, x: Array) -> Array:
        return namespace(x).log(positive(x))

    def inverse(self, z: Array) -> Array:
        return positive(namespace(z).exp(z))

    def divergence(self, v: Array, u: Array) -> Array:
        """sum_i v_i log(v_i/u_i) - v_i + u_i."""
        xp = namespace(u)
        return xp.sum(v * (self.gradient(v) - self.gradient(u)) - v + u, axis=-1)

    def inside(self, z: Array) -> Array:
        """Whether exp(z) is a number that dtype can hold."""
        xp = namespace(z)
        return xp.all(xp.isfinite(xp.exp(z)), axis=-1)

    def root(self, z: Array) -> Array:
        return diagonal(namespace(z).exp(0.5 * z))

    def applied(self, z: Array, a: Array) -> Array:
        return self.inverse(z) * a

    def distance(self, x: Array, y: Array) -> Array:
        """2 |sqrt x - sqrt y|, the geodesic distance of the metric dx^2/x."""
        xp = namespace(x)
        return 2.0 * xp.sqrt(xp.sum((xp.sqrt(x) - xp.sqrt(y)) ** 2, axis=-1))

    def problem(self, x: Array) -> str | None:
        return low_entry(x, "the positive orthant")


@dataclass(frozen=True)
class Simplex(BuiltIn):
    """phi = sum_i x_i log x_i on positive x of sum 1; z is log x up to a constant.

    z is centered, with the mean 0: a common shift does not move the point.
    """

    name = "simplex()"

    def value(self, x: Array) -> Array:
        xp = namespace(x)
        return xp.sum(x * xp.log(positive(x)), axis=-1)

    def gradient(self, x: Array) -> Array:
        return self.center(namespace(x).log(positive(x)))

    def inverse(self, z: Array) -> Array:
        xp = namespace(z)
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        return positive(e / xp.sum(e, axis=-1, keepdims=True))

    def center(self, z: Array) -> Array:
        return z - namespace(z).mean(z, axis=-1, keepdims=True)

    def divergence(self, v: Array, u: Array) -> Array:
        """sum_i v_i log(v_i/u_i)."""
        xp = namespace(u)
        return xp.sum(v * (xp.log(positive(v)) - xp.log(positive(u))), axis=-1)

    def root(self, z: Array) -> Array:
        """diag(sqrt x) - x sqrt(x)^T."""
        xp = namespace(z)
        x = self.inverse(z)
        s = xp.sqrt(x)
        return diagonal(s) - x[..., :, None] * s[..., None, :]

    def applied(self, z: Array, a: Array) -> Array:
        xp = namespace(z)
        x = self.inverse(z)
        return x * (a - xp.sum(x * a, axis=-1, keepdims=True))

    def distance(self, x: Array, y: Array) -> Array:
        """2 arccos(sum_i sqrt(x_i y_i)), the geodesic distance of sum dx^2/x."""
        xp = namespace(x)
        chord = xp.sqrt(xp.sum((xp.sqrt(x) - xp.sqrt(y)) ** 2, axis=-1))
        # The arccosine of numbers near 1 would lose half of the digits.
        return 4.0 * xp.asin(xp.clip(0.5 * chord, max=1.0))

    def problem(self, x: Array) -> str | None:
        xp = namespace(x)
        sums, low = xp.sum(x, axis=-1), float(xp.min(x))
        off = float(xp.max(xp.abs(sums - 1.0)))
        allowed = 1e-8 if dtype_name(x) == "float64" else 1e-5
        if off > allowed * math.sqrt(x.shape[-1]):
            values = to_numpy(sums).ravel()
            worst = float(values[np.argmax(np.abs(values - 1.0))])
            return (
                f"`u0` starts outside the simplex: sum {worst:g}, minimum {low:g}; "
                "give positive entries of sum 1, for instance "
                "u0 / u0.sum(-1, keepdims=True)."
            )
        return low_entry(x, f"the simplex (minimum {low:g})")


@dataclass(frozen=True)
class Burg(BuiltIn):
    """phi = -sum_i log x_i on positive x: grad phi = -1/x."""

    name = "burg()"

    def value(self, x: Array) -> Array:
        xp = namespace(x)
        return -xp.sum(xp.log(x), axis=-1)

    def gradient(self, x: Array) -> Array:
        return -1.0 / x

    def inverse(self, z: Array) -> Array:
        xp = namespace(z)
        return xp.where(z < 0, -1.0 / z, xp.full_like(z, np.nan))

    def inside(self, z: Array) -> Array:
        """Whether all entries are negative."""
        return namespace(z).all(z < 0, axis=-1)

    def divergence(self, v: Array, u: Array) -> Array:
        """sum_i v_i/u_i - log(v_i/u_i) - 1."""
        xp = namespace(u)
        return xp.sum(v / u - xp.log(v / u) - 1.0, axis=-1)

    def root(self, z: Array) -> Array:
        return diagonal(self.inverse(z))

    def applied(self, z: Array, a: Array) -> Array:
        return self.inverse(z) ** 2 * a

    def distance(self, x: Array, y: Array) -> Array:
        """|log(x/y)|, the geodesic distance of the metric dx^2/x^2."""
        xp = namespace(x)
        return xp.sqrt(xp.sum(xp.log(x / y) ** 2, axis=-1))

    def problem(self, x: Array) -> str | None:
        return low_entry(x, "the positive orthant")


def diagonal(d: Array) -> Array:
    """Diagonal matrices (.., n, n) of vectors (.., n)."""
    identity = array_like(np.eye(d.shape[-1]), d)
    return d[..., None] * identity
