"""Whether a modified field is a gradient, and of which energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.theory.modified.series import Tree, rootings, symmetry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.theory.modified.models import SymbolicModel

__all__ = ["contraction", "integrated", "is_curl_free", "potential_weights"]

Expr = Any
POINTS = 5
ROUNDING = 1e-9


def potential_weights(
    coefficients: Mapping[Tree, Any], model: SymbolicModel
) -> dict[Tree, Any] | None:
    """Weights of the elementary energies, by one rooting of each tree without root.

    None where some trees that differ by their root alone, none of them zero for this
    model, have different coefficients.
    """
    weights: dict[Tree, Any] = {}
    seen: set[Tree] = set()

    def zero(tree: Tree) -> bool:
        return all(a == 0 for a in model.differential(tree))

    for tree in coefficients:
        if tree in seen:
            continue
        family = rootings(tree)
        seen.update(family)
        values = {coefficients[one] for one in family if not zero(one)}
        if len(values) > 1:
            return None
        value = values.pop() if values else 0
        if value == 0:
            continue
        # Rooted at a leaf the energy is -grad f . F(branch).
        end = next((one for one in family if len(one[1]) == 1), tree)
        symmetries = symmetry(end) * family.count(end)
        weights[end] = value / symmetries
    return weights


def contraction(model: SymbolicModel, tree: Tree) -> Expr:
    """Elementary energy of a tree whose root has one branch; f for one vertex."""
    import sympy

    if not tree[1]:
        return model.energy
    v = model.parts[0]
    w = model.differential(tree[1][0])
    return sympy.expand(-sum(a * b for a, b in zip(v, w, strict=True)))


def is_curl_free(field: Sequence[Expr], symbols: Sequence[Expr]) -> bool:
    """Whether the derivative of ``field`` is symmetric, by its values at some points.

    Formulas that are equal need not look equal, and coefficients may be rounded.
    """
    import sympy

    slopes = sympy.Matrix(list(field)).jacobian(list(symbols))
    free = sorted(slopes.free_symbols, key=str)
    value = sympy.lambdify(free, slopes, modules="numpy")
    with np.errstate(all="ignore"):
        for point in np.random.default_rng(0).uniform(0.2, 0.9, (POINTS, len(free))):
            J = np.asarray(value(*map(float, point)))
            if not np.isfinite(J).all():
                continue
            if np.abs(J - J.T).max() > ROUNDING * np.abs(J).max():
                return False
    return True


def integrated(field: Sequence[Expr], symbols: Sequence[Expr]) -> Expr | None:
    """The energy of a curl-free ``field`` by integration; None without a formula."""
    import sympy

    total: Expr = sympy.Integer(0)
    known: dict[Expr, Expr] = {}
    for x, a in zip(symbols, field, strict=True):
        # What is left does not depend on the coordinates before, if it looks so or not.
        rest = sympy.expand(-a - sympy.diff(total, x)).subs(known)
        found = sympy.integrate(sympy.expand(rest), x)
        if found.has(sympy.Integral, sympy.nan):
            return None
        total = total + found
        known[x] = sympy.Rational(1, 2)
    return total
