"""What the particle spaces recognize in a formula: quadratics, and kinks of |x|."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from flows.energies import Interaction, Potential
from flows.nonsmooth import ProxField
from flows.symbolic import Constant, QuadraticField

__all__ = [
    "EvenParts",
    "Kink",
    "Kinked",
    "even_parts",
    "is_quadratic",
    "numeric_expr",
    "split_potentials",
    "take_kinks",
]

Expr = Any

# Distributing products over sums can multiply their number.
LONGEST = 80
# A Hessian has d^2 entries, each a formula.
MOST_COORDINATES = 20


@dataclass(frozen=True, eq=False)
class EvenParts:
    """W(z) = z.A z / 2 + kink |z| + constant + rest(z)."""

    matrix: np.ndarray
    kink: float = 0.0
    constant: float = 0.0
    rest: Interaction | None = None


@dataclass(frozen=True, eq=False)
class Kinked:
    """Potentials on the line: weight |x - location| + the sum of smooth ones."""

    weight: float
    location: float
    smooth: tuple[Potential, ...]


def is_quadratic(function: Any) -> bool:
    """Whether a function of a point is a polynomial of degree 2 or less."""
    if isinstance(function, (QuadraticField, Constant)):
        return True
    d = function.dimension or 1
    expr = numeric_expr(function, d)
    return expr is not None and second_derivatives(expr, d) is not None


def even_parts(term: Interaction, d: int) -> EvenParts | None:
    """The parts of an interaction that have fast sums; None when there are none."""
    function = term.function
    if isinstance(function, Constant):
        return EvenParts(np.zeros((d, d)), constant=function.c)
    if isinstance(function, QuadraticField):
        origin = np.zeros((1, d))
        if np.any(function.gradient(origin)):
            return None
        return EvenParts(function.matrix(d), constant=float(function.value(origin)[0]))
    # What fits every dimension, r and sums over coordinates, is decided on the line.
    own = d if function.dimension else 1
    expr = numeric_expr(function, own)
    if expr is None:
        return None
    kink, rest = 0.0, expr
    if d == 1:
        kinks, rest = take_kinks(expr, 1)
        weights = at_places(kinks)
        if any(location != 0.0 for location in weights):
            return None
        kink = weights.get(0.0, 0.0)
    A = second_derivatives(rest, own)
    if A is not None and not any(slopes_at_zero(rest, own)):
        matrix = A if own == d else float(A[0, 0]) * np.eye(d)
        constant = float(function.value(np.zeros((1, d)))[0])
        return EvenParts(matrix, kink, constant)
    if kink == 0.0:
        return None
    return EvenParts(np.zeros((1, 1)), kink, rest=Interaction(rest, scale=term.scale))


@lru_cache(maxsize=256)
def split_potentials(potentials: tuple[Potential, ...], d: int) -> Kinked | None:
    """Potentials on the line with kinks in one place; None when they are not that."""
    users = (t for t in potentials if not isinstance(t.function, ProxField))
    if d != 1 or any(term.prox is not None for term in users):
        return None
    weights: dict[float, float] = {}
    smooth: list[Any] = []
    for term in potentials:
        if term.function.smooth:
            smooth.append(term)
            continue
        expr = numeric_expr(term.function, 1)
        if expr is None:
            return None
        kinks, rest = take_kinks(expr, 1)
        for location, weight in at_places(kinks).items():
            weights[location] = weights.get(location, 0.0) + term.scale * weight
        part = Potential(rest, scale=term.scale)
        if not part.function.smooth:
            return None
        smooth.append(part)
    if len(weights) != 1:
        return None
    ((location, weight),) = weights.items()
    return Kinked(weight, location, tuple(smooth))


def numeric_expr(function: Any, d: int, timed: bool = False) -> Expr | None:
    """Formula in ``coordinates(d)`` with numbers for its parameters, if it has one.

    None also for one that depends on time, unless ``timed``.
    """
    if function.time_dependent and not timed:
        return None
    expr = function.expr(d)
    parameters = function.parameters or {}
    if expr is None or not all(isinstance(v, float) for v in parameters.values()):
        return None
    if not parameters:
        return expr
    from flows.symbolic.vocabulary import exact, parameter

    return expr.subs({parameter(name): exact(v) for name, v in parameters.items()})


def second_derivatives(expr: Expr, d: int) -> np.ndarray | None:
    """The constant Hessian (d, d) of a quadratic formula, None for any other."""
    import sympy

    from flows.symbolic.vocabulary import coordinates

    if d > MOST_COORDINATES:
        return None
    axes = coordinates(d)
    A = np.empty((d, d))
    for i, x in enumerate(axes):
        slope = sympy.diff(expr, x)
        for j in range(i + 1):
            entry = sympy.diff(slope, axes[j])
            if not entry.is_number or not entry.is_finite:
                return None
            A[i, j] = A[j, i] = float(entry)
    return A


def slopes_at_zero(expr: Expr, d: int) -> list[float]:
    """First derivatives of a quadratic formula at the origin."""
    import sympy

    from flows.symbolic.vocabulary import coordinates

    axes = coordinates(d)
    origin = dict.fromkeys(axes, 0)
    return [float(sympy.diff(expr, x).subs(origin)) for x in axes]


@dataclass(frozen=True, eq=False)
class Kink:
    """weight |x_axis - place|; both are sympy expressions of time."""

    axis: int
    place: Expr
    weight: Expr


def take_kinks(expr: Expr, d: int) -> tuple[list[Kink], Expr]:
    """Split sums of c |x_i - p| off a formula in ``coordinates(d)``, and the rest.

    c and p may depend on time; max and min of two arguments are such sums as well.
    """
    import sympy

    from flows.symbolic.vocabulary import coordinates

    axes = coordinates(d)
    if expr.has(sympy.Max, sympy.Min):
        expr = expr.replace(
            lambda part: isinstance(part, (sympy.Max, sympy.Min)),
            lambda part: part.rewrite(sympy.Abs),
        )
    if sympy.count_ops(expr) <= LONGEST:
        expr = sympy.expand_mul(expr)
    kinks, rest = [], []
    for part in sympy.Add.make_args(expr):
        factor, inner = part.as_independent(*axes, as_Add=False)
        kink = linear_kink(factor, inner, axes)
        if kink is None:
            rest.append(part)
        else:
            kinks.append(kink)
    return kinks, sympy.Add(*rest)


def linear_kink(factor: Expr, expr: Expr, axes: tuple[Any, ...]) -> Kink | None:
    """factor |a (x_i - p)|, None for any other expression."""
    import sympy

    if not isinstance(expr, sympy.Abs):
        return None
    (inner,) = expr.args
    named = [i for i, x in enumerate(axes) if inner.has(x)]
    if len(named) != 1:
        return None
    x = axes[named[0]]
    slope = sympy.diff(inner, x)
    if not slope.is_number or slope == 0:
        return None
    place = sympy.expand_mul(-inner.subs(x, 0) / slope)
    return Kink(named[0], place, factor * abs(slope))


def at_places(kinks: list[Kink]) -> dict[float, float]:
    """Weights by place, of kinks on the line that do not depend on time."""
    weights: dict[float, float] = {}
    for kink in kinks:
        place = float(kink.place)
        weights[place] = weights.get(place, 0.0) + float(kink.weight)
    return weights
