"""Modified equations as text and as LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.theory.modified.models import CallableModel
from flows.theory.modified.series import Tree, size, symmetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.theory.modified.equation import ModifiedEquation

__all__ = ["latex", "spelled", "text"]

Expr = Any
LONG = 400


def spelled(tree: Tree, names: tuple[str, ...] = ()) -> str:
    """v''(v, v'v) for a tree; v_name for the part of a player."""
    color, branches = tree
    root = f"v_{names[color]}" if names else "v"
    inner = [spelled(branch, names) for branch in branches]
    if not inner:
        return root
    if len(inner) == 1:
        return f"{root}'{' ' if names else ''}{inner[0]}"
    return f"{root}{chr(39) * len(inner)}({', '.join(inner)})"


def series(equation: ModifiedEquation) -> list[tuple[int, list[tuple[Expr, str]]]]:
    """Power of h, and factors and texts of its derivatives that do not vanish."""
    coefficients, names = united(equation.coefficients or {}, equation.model.names)
    rows = []
    for k in range(1, equation.order + 1):
        parts = [
            (b / symmetry(tree), spelled(tree, names))
            for tree, b in coefficients.items()
            if size(tree) == k and b != 0
        ]
        if parts:
            rows.append((k - 1, parts))
    return rows


def united(
    coefficients: Mapping[Tree, Expr], names: tuple[str, ...]
) -> tuple[Mapping[Tree, Expr], tuple[str, ...]]:
    """Series in v itself where the scheme treats all parts alike."""
    plain: dict[Tree, Expr] = {}
    for tree, b in coefficients.items():
        if plain.setdefault(uncolored(tree), b) != b:
            return coefficients, names
    return plain, ()


def uncolored(tree: Tree) -> Tree:
    """The tree with all vertices of the color 0."""
    return 0, tuple(sorted(uncolored(branch) for branch in tree[1]))


def shown(c: Expr) -> str:
    """A factor and a space; nothing for 1."""
    text = str(c) if c.is_Rational else f"{float(c):.6g}"
    return "" if c == 1 else f"{text} "


def added(parts: list[tuple[Expr, str]]) -> str:
    """1/12 v''(v, v) + 1/3 v'v'v."""
    (c, what), *rest = parts
    result = f"-{shown(-c)}{what}" if c < 0 else f"{shown(c)}{what}"
    for c, what in rest:
        result += f" {'-' if c < 0 else '+'} {shown(abs(c))}{what}"
    return result


def expansion(equation: ModifiedEquation, powers: str = "h^{}") -> str:
    """v - 1/2 h v'v + h^2 (1/12 v''(v, v) + 1/3 v'v'v)."""
    flat: list[tuple[Expr, str]] = []
    for k, parts in series(equation):
        power = "" if k == 0 else "h " if k == 1 else f"{powers.format(k)} "
        if len(parts) == 1 or k == 0:
            flat += [(c, power + what) for c, what in parts]
        else:
            one = parts[0][0] * 0 + 1
            flat.append((one, f"{power}({added(parts)})"))
    return added(flat)


def text(equation: ModifiedEquation) -> str:
    """What ``print`` shows."""
    order = equation.order
    lines = [f"{equation.method!r} with the step h follows, up to O(h^{order}),"]
    if equation.coefficients is not None:
        lines.append(f"    du/dt = {shortened(expansion(equation))}")
    if isinstance(equation.model, CallableModel):
        return "\n".join([*lines, "with v minus the gradient of a callable energy."])
    model = equation.formulas()
    for x, a in zip(model.symbols, equation.field, strict=True):
        lines.append(f"    d{x}/dt = {written(a)}")
    if model.energy is not None:
        if equation.energy is None:
            found = "a gradient flow" if equation.is_gradient else "no gradient flow"
            lines.append(f"which is {found}.")
        else:
            lines.append("the gradient flow of")
            lines.append(f"    {written(equation.energy)}")
    return "\n".join(lines)


def rounded(expr: Expr) -> Expr:
    """The formula with six digits of its floats."""
    import sympy

    return expr.xreplace({a: sympy.Float(a, 6) for a in expr.atoms(sympy.Float)})


def written(expr: Expr) -> str:
    """A formula of readable length."""
    return shortened(str(rounded(expr)))


def shortened(formula: str) -> str:
    """The beginning of a long text."""
    return formula if len(formula) <= LONG else f"{formula[:LONG]} .."


def latex(equation: ModifiedEquation) -> str:
    """The equation in LaTeX."""
    import sympy

    if isinstance(equation.model, CallableModel):
        return f"\\dot u = {expansion(equation, 'h^{{{}}}')}"
    model = equation.formulas()
    if equation.energy is not None:
        shown_energy = sympy.latex(rounded(equation.energy))
        return f"\\dot u = -\\nabla\\left({shown_energy}\\right)"
    rows = [
        f"\\dot {{{sympy.latex(x)}}} &= {sympy.latex(rounded(a))}"
        for x, a in zip(model.symbols, equation.field, strict=True)
    ]
    return "\\begin{aligned}" + " \\\\ ".join(rows) + "\\end{aligned}"
