"""The kinds of term: Potential, Interaction, Internal and Entropy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows import symbolic
from flows.arrays import is_array
from flows.energies.sums import Energy, Term, digits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Entropy", "Interaction", "Internal", "Potential"]

Array = Any
# Functions of a point that have a recipe, which `repr` then shows.
_RECIPES = (
    (symbolic.QuadraticField, "quadratic"),
    (symbolic.SeparableField, "separable"),
)


class _PointTerm(Term):
    """A term given by a function of a point: value and exact derivatives."""

    def value_at(self, x: Array, t: float = 0.0) -> Array:
        """Values at points x (.., d), shape (..)."""
        return _times(self.scale, self.function.value(x, t))

    def gradient_at(self, x: Array, t: float = 0.0) -> Array:
        """Gradient at points x (.., d), shape (.., d)."""
        return _times(self.scale, self.function.gradient(x, t))

    def hessian_at(self, x: Array, t: float = 0.0) -> Array:
        """Hessian at points x (.., d), shape (.., d, d)."""
        return _times(self.scale, self.function.hessian(x, t))

    def hessian_product_at(self, x: Array, v: Array, t: float = 0.0) -> Array:
        """Hessian times v (.., d) at points x (.., d), without the matrix."""
        return _times(self.scale, self.function.hessian_product(x, v, t))

    def hessian_products_at(
        self, x: Array, t: float = 0.0, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        """The map v -> ``hessian_product_at(x, v, t)``, for several v.

        ``slope``, the gradient of this term at x, makes differences one-sided.
        """
        if slope is not None and self.scale != 1.0:
            slope = slope / self.scale if self.scale else None
        product = self.function.products(x, t, slope)
        return lambda v: _times(self.scale, product(v))


def _times(scale: float, values: Array) -> Array:
    return values if scale == 1.0 else scale * values


def _set(term: Term, function: Any) -> None:
    """Store the derived field of a frozen term, after the user's arguments."""
    if isinstance(term.scale, bool) or not isinstance(term.scale, Real):
        raise TypeError(f"`scale` must be a number, got {term.scale!r}.")
    if not math.isfinite(term.scale):
        raise ValueError(f"`scale` must be finite, got {term.scale}.")
    object.__setattr__(term, "scale", float(term.scale))
    object.__setattr__(term, "function", function)


@dataclass(frozen=True, eq=False, repr=False)
class Potential(_PointTerm):
    """Potential energy int V d rho, velocity -grad V.

    Parameters
    ----------
    V : str, sympy expression, callable or number
        V(x) as mathematics (``"(x**2 - 1)**2 / 4"``), or a callable of x (.., d) that
        returns (..). In strings x, y, z or x1..xd are coordinates, r = abs(x), t time.
    parameters : mapping, optional
        Values of the other names in V, numbers or tensors.
    gradient, hessian : callable, optional
        Derivatives of a callable V; by default torch differentiates it.
    prox : callable, optional
        ``prox(x, h)``: argmin_y V(y) + abs(x - y)^2 / 2h, for kinks that the library
        does not recognize; of the unscaled V.
    time_dependent : bool
        A callable V takes (x, t). Strings say it by naming ``t``.

    Raises
    ------
    ValueError, TypeError
        For a string that is not a plain formula, unknown names, a wrong type.

    Examples
    --------
    >>> import flows as fl
    >>> fl.Potential("lam*x**2/2", parameters={"lam": 3.0})(fl.Dirac(2.0))
    6.0
    """

    V: Any
    parameters: Mapping[str, Any] | None = None
    gradient: Callable[..., Array] | None = None
    hessian: Callable[..., Array] | None = None
    prox: Callable[..., Array] | None = None
    time_dependent: bool = False
    scale: float = 1.0
    function: Any = field(init=False)
    kind: ClassVar[str] = "potential"

    def __post_init__(self) -> None:
        if isinstance(self.V, Energy):
            raise TypeError(
                f"`V` is the energy {self.V!r}; use it as it is, without Potential()."
            )
        function = symbolic.field(
            self.V,
            parameters=self.parameters,
            gradient=self.gradient,
            hessian=self.hessian,
            time_dependent=self.time_dependent,
            name="V",
        )
        if self.prox is not None and not callable(self.prox):
            raise TypeError(f"`prox` must be callable(x, h), got {self.prox!r}.")
        _set(self, function)
        object.__setattr__(self, "time_dependent", function.time_dependent)

    def value_on(self, measure: Any, t: float) -> float:
        mean: float = measure.expect(lambda x: self.function.value(x, t))
        return self.scale * mean

    def __repr__(self) -> str:
        text = repr(self.function)
        if getattr(self.function, "recipe", False):
            return self._scaled(text)
        for kind, recipe in _RECIPES:
            if type(self.function) is kind:
                return self._scaled(text.replace(kind.__name__, recipe, 1))
        return self._scaled(f"Potential({text})")


@dataclass(frozen=True, eq=False, repr=False)
class Interaction(_PointTerm):
    """Interaction energy 1/2 iint W(x - y) d rho(x) d rho(y), velocity -grad W * rho.

    Parameters
    ----------
    W : str, sympy expression, callable or number
        W as a function of the difference z = x - y, with W(-z) = W(z); in strings the
        coordinates x, y, z or r are components and length of the difference.
    parameters, gradient, hessian
        As in ``Potential``.

    Raises
    ------
    ValueError, TypeError
        As ``Potential``, and for a formula that is not even.

    Notes
    -----
    The factor 1/2 is always there. Self pairs exert no force; W(0) counts in the energy
    when it is finite.
    """

    W: Any
    parameters: Mapping[str, Any] | None = None
    gradient: Callable[..., Array] | None = None
    hessian: Callable[..., Array] | None = None
    scale: float = 1.0
    function: Any = field(init=False)
    kind: ClassVar[str] = "interaction"

    def __post_init__(self) -> None:
        function = symbolic.field(
            self.W,
            parameters=self.parameters,
            gradient=self.gradient,
            hessian=self.hessian,
            name="W",
        )
        if function.time_dependent:
            raise ValueError(
                f"`W` = {function!r} depends on time; only a Potential may."
            )
        _check_even(function)
        _set(self, function)

    def value_on(self, measure: Any, t: float) -> float:
        mean: float = measure.expect_difference(self.function.value)
        return self.scale * 0.5 * mean

    def __repr__(self) -> str:
        return self._scaled(f"Interaction({self.function!r})")


def _check_even(W: Any) -> None:
    """Refuse a formula W with W(-z) != W(z); callables are taken at their word."""
    values = (W.parameters or {}).values()
    if isinstance(W, symbolic.CallableField) or any(map(is_array, values)):
        return
    with np.errstate(all="ignore"):
        even = W.is_even(W.dimension or 1)
    if not even:
        raise ValueError(
            f"`W` = {W!r} is not even: W(-z) differs from W(z). The energy sees only "
            "(W(z) + W(-z))/2; give that."
        )


class _DensityTerm(Term):
    """A term given by a convex function U of the density."""

    @property
    def temperature(self) -> float | None:
        """T where U is T rho log rho (up to a multiple of rho), else None."""
        if not isinstance(self.function, symbolic.EntropyFunction):
            return None
        return self.scale * self.function.coefficient

    def value_at(self, rho: Array) -> Array:
        """U at densities."""
        return _times(self.scale, self.function.value(rho))

    def first_at(self, rho: Array) -> Array:
        """U' at densities."""
        return _times(self.scale, self.function.first(rho))

    def second_at(self, rho: Array) -> Array:
        """U'' at densities."""
        return _times(self.scale, self.function.second(rho))

    def pressure_at(self, rho: Array) -> Array:
        """rho U'(rho) - U(rho)."""
        return _times(self.scale, self.function.pressure(rho))

    def value_on(self, measure: Any, t: float) -> float:
        integral: float = measure.integrate(self.function.value)
        return self.scale * integral


@dataclass(frozen=True, eq=False, repr=False)
class Internal(_DensityTerm):
    """Internal energy int U(rho) dx.

    Parameters
    ----------
    U : str, sympy expression or callable
        A convex function of the density ``rho``, for instance ``"rho**2"``;
        porous-medium flow of order m is ``"rho**m/(m-1)"``.
    parameters : mapping, optional
        Values of the other names in U.
    first, second : callable, optional
        Derivatives of a callable U; by default torch differentiates it.
    """

    U: Any
    parameters: Mapping[str, Any] | None = None
    first: Callable[..., Array] | None = None
    second: Callable[..., Array] | None = None
    scale: float = 1.0
    function: Any = field(init=False)
    kind: ClassVar[str] = "internal"

    def __post_init__(self) -> None:
        function = symbolic.density_function(
            self.U, parameters=self.parameters, first=self.first, second=self.second
        )
        _set(self, function)

    def __repr__(self) -> str:
        text = repr(self.function)
        if isinstance(self.U, str):
            # As it was typed: recognized functions have another name.
            given = dict(self.parameters or {})
            text = f'"{self.U}"' + (f", parameters={given}" if given else "")
        elif re.fullmatch(r"PowerFunction\([^,]*\)", text):
            return self._scaled(text.replace("PowerFunction", "porous_medium"))
        return self._scaled(f"Internal({text})")


@dataclass(frozen=True, eq=False, repr=False)
class Entropy(_DensityTerm):
    """Entropy T int rho log rho dx at temperature T: linear diffusion T Lap rho.

    Parameters
    ----------
    T : float
        Temperature, finite and not negative.
    """

    T: float = 1.0
    scale: float = 1.0
    function: Any = field(init=False)
    kind: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        T = self.T
        if isinstance(T, bool) or not isinstance(T, Real):
            raise TypeError(f"The temperature `T` must be a number, got {T!r}.")
        if not (math.isfinite(T) and T >= 0):
            raise ValueError(f"The temperature `T` must be finite and >= 0, got {T}.")
        # One number holds both: U is rho log rho and the scale the temperature.
        object.__setattr__(self, "scale", float(T) * self.scale)
        object.__setattr__(self, "T", 1.0)
        _set(self, symbolic.density_function("rho*log(rho)"))

    def __repr__(self) -> str:
        sign = "-" if self.scale < 0 else ""
        return f"{sign}Entropy({digits(abs(self.scale))})"
