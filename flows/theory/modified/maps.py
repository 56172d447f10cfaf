"""Modified equations of steps that are no series of trees, by expansion in h.

A step u + h d_1 + h^2 d_2 + .. is the exact flow of v + h v_2 + .. with

    v_j = d_j - sum_{i >= 2} 1/i! (coefficient of h^j of the i-th derivative of u)

along that field itself, of which only v .. v_{j-1} enter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flows.schemes import ItohAbe

if TYPE_CHECKING:
    from flows.theory.modified.models import SymbolicModel

__all__ = ["field_of_map", "map_terms"]

Expr = Any
Vector = tuple[Expr, ...]
# Operations up to which a formula is simplified.
LONGEST = 500


def map_terms(method: Any, model: SymbolicModel, order: int) -> tuple[Vector, ...]:
    """The modified field of ``Gonzalez`` or ``ItohAbe``, by powers of h."""
    expand = itoh_abe if isinstance(method, ItohAbe) else gonzalez
    return field_of_map(expand(model, order), model.symbols, order)


def truncated(expr: Expr, h: Expr, order: int) -> Expr:
    """Taylor polynomial in h of degree ``order``, for an expression smooth at h = 0."""
    import sympy

    total, derivative = sympy.Integer(0), expr
    for k in range(order + 1):
        total += derivative.subs(h, 0) / math.factorial(k) * h**k
        if k < order:
            derivative = derivative.diff(h)
    return total


def coefficients(polynomials: list[Expr], h: Expr, order: int) -> list[Vector]:
    """Vectors of the coefficients of h, .., h^order."""
    import sympy

    expanded = [sympy.expand(p) for p in polynomials]
    return [tuple(p.coeff(h, k) for p in expanded) for k in range(1, order + 1)]


def itoh_abe(model: SymbolicModel, order: int) -> list[Vector]:
    """d_i = -h sum_k d^k F(z)/dx_i^k d_i^(k-1)/k!, z with the new x_1 .. x_{i-1}."""
    import sympy

    h, energy = sympy.Dummy("h"), sympy.sympify(model.energy)
    moves: list[Expr] = []
    for i, x in enumerate(model.symbols):
        moved = {y: y + moves[j] for j, y in enumerate(model.symbols[:i])}
        slopes, slope = [], energy
        for k in range(1, order + 1):
            slope = slope.diff(x)
            there = truncated(slope.xreplace(moved), h, order - 1) if i else slope
            slopes.append(there / math.factorial(k))
        d = sympy.Integer(0)
        # Each round is right to one power of h more.
        for _ in range(order):
            quotient = sum(s * d**k for k, s in enumerate(slopes))
            d = sympy.expand(truncated(-h * quotient, h, order))
        moves.append(d)
    return coefficients(moves, h, order)


def gonzalez(model: SymbolicModel, order: int) -> list[Vector]:
    """The step h e with e = v(m) - c/|h e|^2 h e, c the defect of the midpoint.

    c = sum over k = 3, 5, .. of D^k F(m)[h e, .., h e] / (k! 2^(k-1)).
    """
    import sympy

    h = sympy.Dummy("h")
    # The vector e does not move when F is differentiated or taken at the midpoint.
    still = tuple(sympy.Dummy(f"e{i}") for i in range(len(model.symbols)))
    defect = sympy.Integer(0)
    for k in range(3, order + 1, 2):
        slope = model.derivative(model.energy, [still] * k)
        defect += h ** (k - 1) * slope / (math.factorial(k) * 2 ** (k - 1))
    e: list[Expr] = [sympy.Integer(0)] * len(model.symbols)
    for n in range(order):
        middle = {x: x + h * a / 2 for x, a in zip(model.symbols, e, strict=True)}
        new = [a.xreplace(middle) for a in model.parts[0]]
        if n >= 2:
            c = defect.xreplace(middle).xreplace(dict(zip(still, e, strict=True)))
            ratio = c / sum(a * a for a in e)
            new = [a - ratio * b for a, b in zip(new, e, strict=True)]
        e = [truncated(a, h, n) for a in new]
    return coefficients([h * a for a in e], h, order)


def field_of_map(
    steps: list[Vector], symbols: tuple[Expr, ...], order: int
) -> tuple[Vector, ...]:
    """v, v_2, .. of the map u + h d_1 + h^2 d_2 + ..."""
    import sympy

    terms: list[Vector] = []

    def derivative(series: list[Vector]) -> list[Vector]:
        """Coefficients of h^j of h (the field so far) . grad series."""
        size = len(symbols)
        result = [[sympy.Integer(0)] * size for _ in range(order + 1)]
        for i, f in enumerate(terms, 1):
            for j, g in enumerate(series):
                if i + j <= order:
                    for row in range(size):
                        result[i + j][row] += sum(
                            a * g[row].diff(x) for a, x in zip(f, symbols, strict=True)
                        )
        return [tuple(row) for row in result]

    zero = tuple(sympy.Integer(0) for _ in symbols)
    for j in range(1, order + 1):
        known = [zero, *terms] + [zero] * (order - len(terms))
        total, power = list(steps[j - 1]), known
        for i in range(2, j + 1):
            power = derivative(power)
            total = [
                a - b / math.factorial(i) for a, b in zip(total, power[j], strict=True)
            ]
        terms.append(tuple(tidied(a) for a in total))
    return tuple(terms)


def tidied(a: Expr) -> Expr:
    """``a`` simplified; a long formula only cancelled, which takes no minutes."""
    import sympy

    found = sympy.expand(a)
    long = found.count_ops() > LONGEST
    return sympy.cancel(found) if long else sympy.simplify(found)
