"""Functions of a point, V(x) or V(x, t): the interface, and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import batch_matvec, is_torch, namespace
from flows.symbolic.formulas import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Constant", "Field", "points", "unknown_parameters"]

Array = Any
Expr = Any


def points(x: Any) -> Array:
    """``x`` as an array of points (.., d); numbers that are not floats become float64.

    Raises
    ------
    ValueError
        For a single number, which has no axis of coordinates.
    """
    if is_torch(x):
        if not x.is_floating_point():
            x = x.double()
    else:
        x = np.asarray(x)
        if x.dtype.kind != "f":
            x = x.astype(np.float64)
    if x.ndim == 0:
        raise ValueError(
            "Points have shape (.., d), got a single number; in one dimension "
            "write x[..., None]."
        )
    return x


class Field:
    """A function of a point; what ``Potential`` and ``Interaction`` hold.

    Attributes
    ----------
    time_dependent : bool
        Whether it depends on time.
    smooth : bool
        Whether it is known to have continuous second derivatives.
    dimension : int or None
        The only dimension of points that it takes, None for every dimension.
    parameters : mapping
        Values of named parameters.
    differences : bool
        Whether second derivatives are differences of gradients.
    """

    time_dependent: Any = False
    smooth: Any = True
    dimension: Any = None
    parameters: Any = None
    name: Any = "V"
    differences: Any = False

    def value(self, x: Array, t: Any = 0.0) -> Array:
        """Values at points x (.., d), shape (..); t is a number or (batch, 1)."""
        raise NotImplementedError

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        """Gradients at points x (.., d), shape (.., d)."""
        raise NotImplementedError

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        """Hessians at points x (.., d), shape (.., d, d)."""
        raise NotImplementedError

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        """Hessians times v (.., d) at points x (.., d), without the matrices."""
        return batch_matvec(self.hessian(x, t), v)

    def products(
        self, x: Array, t: Any = 0.0, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        """The map v -> ``hessian_product(x, v, t)``, for several v at the same points.

        With ``slope``, the gradient at x, products that are differences of gradients
        are one-sided: one gradient each instead of two, accurate to about 1e-8.
        """
        return lambda v: self.hessian_product(x, v, t)

    def expr(self, d: int) -> Expr | None:
        """Sympy expression in the symbols ``coordinates(d)`` and t, None if unknown."""
        return None

    def inner_expr(self, d: int) -> Expr | None:
        """Expression in the library's own symbols x1..xd, r, t, for making code."""
        expr = self.expr(d)
        if expr is None:
            return None
        from flows.symbolic import vocabulary

        pairs = zip(vocabulary.coordinates(d), vocabulary.inner_axes(d), strict=True)
        return vocabulary.from_sympy(expr.xreplace(dict(pairs)))

    def latex(self, d: int | None = None) -> str:
        """LaTeX of the formula; the name of the function when there is none."""
        import sympy

        expr = self.expr(d or self.dimension or 1)
        return f"{self.name}(x)" if expr is None else str(sympy.latex(expr))

    def with_parameters(self, parameters: Mapping[str, Any]) -> Field:
        """The same function with some of its named parameters changed."""
        raise unknown_parameters(parameters, self)

    def check_dimension(self, d: int) -> None:
        """Raise ValueError when points cannot have ``d`` coordinates."""
        if self.dimension not in (None, d):
            raise ValueError(
                f"{self.name} = {self!r} takes points with {self.dimension} "
                f"coordinate(s), got {d}."
            )

    def probe(self, x: Array, t: float = 0.0, derivatives: int = 1) -> None:
        """Evaluate once, up to ``derivatives``, before a loop relies on it.

        Raises
        ------
        TypeError, ValueError
            When this function cannot be evaluated at such points.
        """
        x = points(x)
        self.check_dimension(x.shape[-1])
        for evaluate in (self.value, self.gradient, self.hessian)[: derivatives + 1]:
            evaluate(x, t)

    def is_even(self, d: int) -> bool:
        """Whether V(-x) = V(x), to rounding, at 16 random points."""
        x = np.random.default_rng(0).normal(size=(16, d))
        there, back = self.value(x), self.value(-x)
        return bool(np.allclose(there, back, rtol=1e-10, atol=1e-12, equal_nan=True))


def unknown_parameters(parameters: Mapping[str, Any], owner: Field) -> ValueError:
    known = ", ".join(owner.parameters or {}) or "none"
    return ValueError(
        f"{owner.name} = {owner!r} has no parameter(s) "
        f"{', '.join(map(repr, parameters))}; known: {known}."
    )


@dataclass(frozen=True, eq=False, repr=False)
class Constant(Field):
    """The same number everywhere."""

    c: float
    name: str = "V"

    def __post_init__(self) -> None:
        c = number(self.c)
        if c is None:
            raise TypeError(f"`{self.name}` must be a number, got {self.c!r}.")
        if not math.isfinite(c):
            raise ValueError(f"`{self.name}` must be finite, got {c}.")
        object.__setattr__(self, "c", c)

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        if is_torch(x):
            return x.new_full(x.shape[:-1], self.c)
        return np.full(x.shape[:-1], self.c, x.dtype)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        return namespace(x).zeros_like(x)

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        shape = (*x.shape, x.shape[-1])
        return x.new_zeros(shape) if is_torch(x) else np.zeros(shape, x.dtype)

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        return namespace(v).zeros_like(v)

    def expr(self, d: int) -> Expr:
        from flows.symbolic.vocabulary import exact

        return exact(self.c)

    def __repr__(self) -> str:
        return repr(self.c)
