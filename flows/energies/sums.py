"""Sums and multiples of energies, and what all kinds of term share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from flows import symbolic

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Energy", "Sum", "Term", "digits"]


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
            replace(opened(term), scale=term.scale * float(factor))
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
        known = {name for term in self.terms for name in parameters_of(term)}
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
        own = parameters_of(self)
        mine = {name: parameters[name] for name in own if name in parameters}
        return replace(opened(self), parameters={**own, **mine}) if mine else self

    def _scaled(self, text: str) -> str:
        match self.scale:
            case 1.0:
                return text
            case -1.0:
                return f"-{text}"
        return f"{digits(self.scale)}*{text}"


def opened(term: Term) -> Any:
    """The term for ``replace``: every kind is a dataclass, their base is none."""
    return term


def digits(number: float) -> str:
    """Short text of a number that gives the same number when it is typed."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def parameters_of(term: Term) -> Mapping[str, Any]:
    """Parameters given to a term, and those of a function that it was given."""
    function = getattr(term.function, "parameters", None) or {}
    return {**function, **(getattr(term, "parameters", None) or {})}
