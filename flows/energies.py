"""Energies: frozen, algebraic, ignorant of grids, particles and array libraries.

    F(rho) = int V d rho + T int rho log rho + int U(rho) dx
             + 1/2 iint W(x - y) d rho(x) d rho(y)

``Potential``, ``Entropy``, ``Internal`` and ``Interaction`` are the kinds of term; sums
and positive or negative multiples of them are energies again. Spaces look at the kind
of each term, so a term is recognized, not merely differentiated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows import symbolic
from flows.arrays import is_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Energy",
    "Entropy",
    "Interaction",
    "Internal",
    "Potential",
    "Sum",
    "Term",
    "kl",
    "porous_medium",
    "quadratic",
    "separable",
]

Array = Any
# Functions of a point that have a recipe, which `repr` then shows.
_RECIPES = (
    (symbolic.QuadraticField, "quadratic"),
    (symbolic.SeparableField, "separable"),
)


class Energy:
    """A sum of terms; ``+``, ``-`` and multiplication by a number make new ones.

    ``F(measure)`` is the energy of a measure where it is defined.
    """

    # NumPy's numbers leave the product with an energy to the energy.
    __array_ufunc__ = None

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the sum, each with its own scale."""
        raise NotImplementedError

    @property
    def depends_on_time(self) -> bool:
        """Whether some term depends on time."""
        return any(term.time_dependent for term in self.terms)

    def __add__(self, other: Any) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return Sum(self.terms + other.terms)

    def __sub__(self, other: Any) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return self + -1.0 * other

    def __mul__(self, factor: Any) -> Energy:
        if isinstance(factor, bool) or not isinstance(factor, Real):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"An energy times {factor} is not an energy.")
        scaled = tuple(
            replace(_open(term), scale=term.scale * float(factor))
            for term in self.terms
        )
        return scaled[0] if isinstance(self, Term) else Sum(scaled)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Energy:
        if isinstance(divisor, bool) or not isinstance(divisor, Real):
            return NotImplemented
        if divisor == 0 or not math.isfinite(divisor):
            raise ValueError(f"An energy divided by {divisor} is not an energy.")
        return self * (1.0 / float(divisor))

    def __neg__(self) -> Energy:
        return -1.0 * self

    def __call__(self, measure: Any, t: float = 0.0) -> float:
        """Energy of a measure at time ``t``; may be ``inf``.

        Raises
        ------
        TypeError
            When a term has no value on this measure and no quadrature is known.
        """
        return math.fsum(term.value_on(measure, t) for term in self.terms)

    def with_parameters(self, parameters: Mapping[str, Any]) -> Energy:
        """The same energy with some of its named parameters changed.

        Raises
        ------
        ValueError
            For a name that no term has.
        """
        known = {name for term in self.terms for name in _parameters(term)}
        unknown = sorted(set(parameters) - known)
        if unknown:
            raise ValueError(
                f"No term has the parameter(s) {', '.join(unknown)}; known: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        changed = tuple(term._with_parameters(parameters) for term in self.terms)
        return changed[0] if isinstance(self, Term) else Sum(changed)

    def first_variation(self, d: int | None = None) -> Any:
        """Sympy expression V + T (log rho + 1) + U'(rho) + W * rho.

        Parameters
        ----------
        d : int, optional
            Dimension; by default the highest coordinate that a term names, at least 1.
        """
        return symbolic.first_variation(self._formulas(), d)

    def pde(self, d: int | None = None) -> Any:
        """Sympy equation d_t rho = div(rho grad(dF/drho)) in ``d`` dimensions."""
        return symbolic.pde(self._formulas(), d)

    def _formulas(self) -> list[tuple[str, float, Any]]:
        return [(term.kind, term.scale, term.function) for term in self.terms]

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {symbolic.latex_energy(self._formulas())}$"


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Energy):
    """Sum of terms, as ``+`` makes it."""

    parts: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        return self.parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts)).replace("+ -", "- ")


class Term(Energy):
    """One kind of term times ``scale``."""

    temperature: Any = None
    prox: Any = None
    scale: float
    function: Any
    time_dependent: Any = False
    kind: ClassVar[str]

    @property
    def terms(self) -> tuple[Term, ...]:
        return (self,)

    def value_on(self, measure: Any, t: float) -> float:
        """Value of this term on a measure."""
        raise NotImplementedError

    def _with_parameters(self, parameters: Mapping[str, Any]) -> Term:
        own = _parameters(self)
        mine = {name: parameters[name] for name in own if name in parameters}
        return replace(_open(self), parameters={**own, **mine}) if mine else self

    def _scaled(self, text: str) -> str:
        match self.scale:
            case 1.0:
                return text
            case -1.0:
                return f"-{text}"
        return f"{_digits(self.scale)}*{text}"


def _open(term: Term) -> Any:
    """The term for ``replace``: every kind is a dataclass, their base is none."""
    return term


def _digits(number: float) -> str:
    """Short text of a number that gives the same number when it is typed."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _parameters(term: Term) -> Mapping[str, Any]:
    """Parameters given to a term, and those of a function that it was given."""
    function = getattr(term.function, "parameters", None) or {}
    return {**function, **(getattr(term, "parameters", None) or {})}


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
        return f"{sign}Entropy({_digits(abs(self.scale))})"


def total_temperature(energy: Energy) -> float:
    """Sum of the temperatures of the entropy terms, in either spelling."""
    found = (term.temperature for term in energy.terms)
    return math.fsum(T for T in found if T is not None)


def kl(target: Any, *, T: float = 1.0) -> Energy:
    """Relative entropy KL(rho | q) times T, q = exp(-V/T) or a measure.

    ``kl(V)`` omits the unknown constant log Z; ``kl(measure)`` has it, so that its
    minimum is 0.

    Parameters
    ----------
    target : str, sympy expression, callable, Potential or Measure
        The potential V = -log q, or q itself.
    """
    if isinstance(target, Potential):
        return Entropy(T) + target
    if hasattr(target, "pdf"):
        return Entropy(T) + Potential(target.potential(), scale=T)
    return Entropy(T) + Potential(target)


def porous_medium(m: float, V: Any = None) -> Energy:
    """Energy int rho^m/(m-1) dx (+ int V d rho): d_t rho = Lap rho^m (+ div(rho V')).

    Parameters
    ----------
    m : float
        Exponent, positive and not 1 (that is ``Entropy``); m < 1 is fast diffusion.
    V : potential, optional
        Anything that ``Potential`` takes.

    References
    ----------
    F. Otto, Comm. PDE 26 (2001), doi:10.1081/PDE-100002243.
    """
    internal = Internal(symbolic.PowerFunction(m))
    if V is None:
        return internal
    return internal + (V if isinstance(V, Energy) else Potential(V))


def quadratic(A: Any = 1.0, *, center: Any = None, b: Any = None) -> Potential:
    """Potential (x - center).A(x - center)/2 - b.x.

    Parameters
    ----------
    A : float, (n,) or (n, n) array
        A vector is diagonal; a matrix must be symmetric. It may be singular.
    center, b : float or (n,) array, optional
    """
    return Potential(symbolic.QuadraticField(A, center, b))


def separable(V: str, *, parameters: Mapping[str, Any] | None = None) -> Potential:
    """Potential sum_i v(x_i) in any dimension, v typed in the variable ``x``."""
    return Potential(symbolic.SeparableField(V, parameters))
