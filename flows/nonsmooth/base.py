"""Functions of a point whose proximal maps are known exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.measures.checks import real_array
from flows.symbolic import Field
from flows.symbolic.fields import points

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProxField", "entries", "identity", "shown", "weight"]

Array = Any


class ProxField(Field):
    """A convex function R of a point that knows its proximal map.

    Attributes
    ----------
    axes : int
        Trailing axes that make one point: 1 for vectors, 2 for matrices.
    separable : bool
        Whether R is a sum of functions of one coordinate each; the step h of ``prox``
        may then differ from coordinate to coordinate.
    uniform : bool
        Whether these functions are the same for every coordinate.
    homogeneous : bool
        Whether R(c x) = c R(x) for c >= 0.
    radial : bool
        Whether the proximal map only shortens x.
    exact : bool
        Whether a proximal step of length h is the gradient flow at time h.
    lipschitz : float
        Lipschitz constant of the gradient; infinite where there is a kink.
    """

    smooth = False
    recipe = True
    axes: Any = 1
    separable: Any = False
    homogeneous: Any = False
    uniform: Any = False
    radial: Any = False
    exact: Any = False
    lipschitz: Any = math.inf

    def prox(self, x: Array, h: Any) -> Array:
        """argmin_y R(y) + |x - y|^2 / 2h at points x; h is a number or (batch, 1)."""
        raise NotImplementedError

    def least(self, x: Array, g: Array) -> Array:
        """The shortest element of g + dR(x), the subdifferential of R at x."""
        raise NotImplementedError

    def derivative(self, x: Array, h: Any) -> Array:
        """A generalized derivative of ``prox`` at x: (.., n) if separable, else square.

        TypeError where none is known.
        """
        raise TypeError(f"The derivative of the proximal map of {self!r} is not known.")

    def scaled(self, factor: float) -> ProxField:
        """R times a positive number."""
        raise NotImplementedError

    def on_entries(self, shape: tuple[int, int]) -> ProxField:
        """R as a function of the n k entries of matrices (n, k), row by row."""
        return self

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        """The shortest subgradient."""
        x = points(x)
        return self.least(x, namespace(x).zeros_like(x))

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        """Second derivatives away from the kinks: zero for piecewise linear R."""
        x = points(x)
        return 0.0 * identity(x) + namespace(x).zeros_like(x)[..., None]

    def probe(self, x: Array, t: float = 0.0, derivatives: int = 1) -> None:
        """Evaluate once; what has no second derivatives is not asked for them."""
        super().probe(x, t, min(derivatives, 1))


def identity(x: Array) -> Array:
    """Unit matrix (n, n) for points x (.., n)."""
    return array_like(np.eye(x.shape[-1]), x)


def weight(a: Any, name: str = "a") -> float:
    """One finite number that is not negative."""
    value = real_array(a, name)
    if value.ndim or not value >= 0.0:
        raise ValueError(f"`{name}` must be one number >= 0, got {a!r}.")
    return float(value)


def entries(
    value: Any, name: str, allowed: Callable[[np.ndarray], Any] = np.isfinite
) -> np.ndarray:
    """A number or a vector (n,) as an array, every entry ``allowed``."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be real numbers, got {value!r}.") from error
    if array.ndim > 1 or array.size == 0:
        raise ValueError(
            f"`{name}` has shape {array.shape}, expected a number or (n,), one number "
            "for each coordinate."
        )
    if not np.all(allowed(array)):
        raise ValueError(f"`{name}` = {value!r} is not allowed here.")
    array.flags.writeable = False
    return array


def shown(value: Any) -> str:
    """A number or a vector as one types it."""
    array = np.asarray(value, dtype=float)
    if array.ndim == 0:
        number = float(array)
        if math.isinf(number):
            return "np.inf" if number > 0.0 else "-np.inf"
        return f"{number:g}" if float(f"{number:g}") == number else repr(number)
    if array.size > 6:
        return f"<{array.size} numbers>"
    return f"[{', '.join(shown(v) for v in array)}]"
