"""Derivatives of a formula V(x, r, t), finite at the origin; loads sympy.

With r = abs(x) kept as one symbol,

    grad V = A + q x,      A_i = d_i V,   q = V_r / r,
    Hess V = A' + B n^T + n B^T + C n n^T + q I,
                           B_i = d_i V_r,   C = V_rr - q,   n = x / r,

so a radial formula costs the same in every dimension. Where r enters only as a smooth
function of s = r^2, the derivatives in s are used, with n = x, B_i = 2 d_i V_s,
C = 4 V_ss and q = 2 V_s, and nothing is ever divided by r. Elsewhere the quotients are
0 at the origin, except that q there is V_rr(0) in the Hessian when V_r(0) = 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sympy
from sympy import Function, Integer, Symbol

from flows.symbolic.vocabulary import RADIUS, axes_of, axis, power

__all__ = [
    "SAFE",
    "SQUARE",
    "Gradient",
    "Hessian",
    "at_origin",
    "components",
    "curvature",
    "gradient_of",
    "hessian_of",
    "is_finite_at",
    "name_lengths",
    "radial_is_smooth",
    "split",
]

Expr = Any

SQUARE = Symbol("s", nonnegative=True)
"""Squared length of the point."""

SAFE = Symbol("r_safe", positive=True)
"""Length of the point, 1 at the origin."""


class at_origin(Function):  # type: ignore[misc]
    """First argument where the safe variable vanishes, second one elsewhere."""

    nargs = 2


class curvature(Function):  # type: ignore[misc]
    """V_rr where V_r vanishes and V_rr is finite, else 0; printed only."""

    nargs = 2


class Gradient(NamedTuple):
    """A + q x; ``radial`` is q, None where r does not enter."""

    explicit: dict[int, Expr]
    radial: Expr | None


class Hessian(NamedTuple):
    """A' + B n^T + n B^T + C n n^T + q I; ``explicit`` has the upper triangle.

    ``unit``: n is x/r, else x.
    """

    explicit: dict[tuple[int, int], Expr]
    mixed: dict[int, Expr]
    outer: Expr | None
    radial: Expr | None
    unit: bool = False


def is_finite_at(expr: Expr, symbol: Symbol) -> bool:
    """Whether putting ``symbol`` to 0 leaves a finite expression, as far as is seen."""
    if symbol not in expr.free_symbols:
        return True
    if any(symbol in p.free_symbols for p in expr.atoms(power)):
        return False
    return _is_finite(_put(expr, [(symbol, 0)]))


def _is_finite(expr: Expr) -> bool:
    return not expr.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)


def _put(expr: Expr, values: list[tuple[Symbol, int]]) -> Expr:
    """Substitute; NaN where sympy refuses, as it does for the sign of an imaginary."""
    try:
        return expr.subs(values)
    except (TypeError, ValueError):
        return sympy.nan


def split(expr: Expr, d: int) -> tuple[Expr, Symbol | None]:
    """Formula in s where r enters smoothly through s = r^2, else in r, else as is."""
    expr = name_lengths(expr, d)
    if RADIUS not in expr.free_symbols:
        return expr, None
    square = expr.subs(RADIUS, sympy.sqrt(SQUARE))
    odd = any(
        p.base == SQUARE and not p.exp.is_Integer
        for p in square.atoms(sympy.Pow)
        if not p.base.is_number
    )
    slope = square if odd else square.diff(SQUARE)
    if not odd and all(
        is_finite_at(e, SQUARE) for e in (square, slope, slope.diff(SQUARE))
    ):
        return square, SQUARE
    return expr, RADIUS


def name_lengths(expr: Expr, d: int) -> Expr:
    """Write r for the root of x1^2 + ... + xd^2, whose derivative is 0/0 at 0."""
    if d < 2:
        return expr
    roots = {
        p: RADIUS ** (2 * p.exp)
        for p in expr.atoms(sympy.Pow)
        if p.exp.is_number and not p.exp.is_Integer and _is_square(p.base, d)
    }
    return expr.xreplace(roots) if roots else expr


def _is_square(expr: Expr, d: int) -> bool:
    terms = sympy.Add.make_args(expr)
    return len(terms) == d and set(terms) == {axis(i) ** 2 for i in range(d)}


def gradient_of(expr: Expr, d: int) -> Gradient:
    """Gradient of a formula in ``d`` dimensions."""
    formula, variable = split(expr, d)
    explicit = _slopes(formula, d)
    if variable is None:
        return Gradient(explicit, None)
    slope = formula.diff(variable)
    if variable == SQUARE:
        return Gradient(explicit, 2 * slope)
    zero = Integer(0)
    explicit = {i: _guard(e, zero) for i, e in explicit.items()}
    return Gradient(explicit, _guard(_over(slope, RADIUS), zero))


def hessian_of(expr: Expr, d: int) -> Hessian:
    """Hessian of a formula in ``d`` dimensions."""
    formula, variable = split(expr, d)
    explicit = {
        (i, j): second
        for i, first in _slopes(formula, d).items()
        for j, second in _slopes(first, d).items()
        if i <= j
    }
    if variable is None:
        return Hessian(explicit, {}, None, None)
    slope = formula.diff(variable)
    second = slope.diff(variable)
    if variable == SQUARE:
        mixed = {i: 2 * e for i, e in _slopes(slope, d).items()}
        return Hessian(explicit, mixed, _nonzero(4 * second), 2 * slope)
    zero = Integer(0)
    quotient = _over(slope, RADIUS)
    explicit = {ij: _guard(e, zero) for ij, e in explicit.items()}
    mixed = {i: _guard(e, zero) for i, e in _slopes(slope, d).items()}
    outer = _guard(second - quotient, zero)
    radial = _guard(quotient, _curvature_at_origin(slope, second, d))
    return Hessian(explicit, mixed, _nonzero(outer), radial, unit=True)


def components(expr: Expr, d: int) -> tuple[list[Expr], Symbol | None]:
    """The ``d`` components of the gradient, each written out, and the length used."""
    gradient = gradient_of(expr, d)
    parts = [
        gradient.explicit.get(i, Integer(0))
        + (0 if gradient.radial is None else gradient.radial * axis(i))
        for i in range(d)
    ]
    return parts, split(expr, d)[1]


def radial_is_smooth(expr: Expr, d: int) -> bool:
    """Whether r enters so that the second derivatives are continuous at the origin."""
    formula, variable = split(expr, d)
    if variable != RADIUS:
        return True
    slope = formula.diff(RADIUS)
    second = slope.diff(RADIUS)
    if any(RADIUS in p.free_symbols for p in expr.atoms(power)):
        return False
    if not (is_finite_at(slope, RADIUS) and is_finite_at(second, RADIUS)):
        return False
    return bool(_at_zero(slope, d) == 0)


def _slopes(formula: Expr, d: int) -> dict[int, Expr]:
    names = formula.free_symbols
    slopes = {i: formula.diff(axis(i)) for i in axes_of(names, d)}
    return {i: e for i, e in slopes.items() if e != 0}


def _over(expr: Expr, divisor: Expr) -> Expr:
    """Quotient term by term, so that powers cancel."""
    return sympy.Add(*[term / divisor for term in sympy.Add.make_args(expr)])


def _guard(expr: Expr, there: Expr) -> Expr:
    """``expr`` made safe at the origin, where it becomes ``there``."""
    if is_finite_at(expr, RADIUS):
        return expr
    return at_origin(there, expr.subs(RADIUS, SAFE))


def _at_zero(expr: Expr, d: int) -> Expr:
    named = [axis(i) for i in axes_of(expr.free_symbols, d)]
    return _put(expr, [(RADIUS, 0), *[(x, 0) for x in named]])


def _curvature_at_origin(slope: Expr, second: Expr, d: int) -> Expr:
    undecided = any(RADIUS in p.free_symbols for p in slope.atoms(power))
    value = _at_zero(slope, d)
    if undecided or not (value.is_number or value.is_zero):
        return curvature(slope, second)
    there = _at_zero(second, d)
    return there if value == 0 and _is_finite(there) else Integer(0)


def _nonzero(expr: Expr) -> Expr | None:
    return None if expr == 0 else expr
