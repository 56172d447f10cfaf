"""Formulas at one point, as functions of numbers: compiled, and in plain Python."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.symbolic import engines

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["numba_gradient", "point_model", "scalar_source"]

Expr = Any


def numba_gradient(field: Any, d: int) -> tuple[Any, tuple[float, ...]] | None:
    """Gradient of a formula at one point as a compiled function of numbers.

    Parameters
    ----------
    field : Field
    d : int
        Dimension of the points.

    Returns
    -------
    function : numba dispatcher
        (x1, ..., xd, t, p1, ..., pk) -> tuple of d floats, to be called from other
        compiled code. The values of parameters are arguments, so a sweep compiles once.
    parameters : tuple of float
        p1, ..., pk.

    None instead of the pair when there is no formula, or a parameter is no number.

    Raises
    ------
    ImportError
        When numba is not installed.
    """
    return _with_parameters(_compiled_gradient, field, d)


def _with_parameters(
    make: Callable[[Expr, int], tuple[Any, tuple[str, ...]]], field: Any, d: int
) -> tuple[Any, tuple[float, ...]] | None:
    """The function that ``make`` finds for a formula, and its numbers p1, ..., pk."""
    expr = field.inner_expr(d)
    if expr is None:
        return None
    function, names = make(expr, d)
    values = tuple((field.parameters or {})[name] for name in names)
    return (function, values) if all(isinstance(v, float) for v in values) else None


@lru_cache(maxsize=128)
def _compiled_gradient(expr: Expr, d: int) -> tuple[Any, tuple[str, ...]]:
    from numba import njit

    from flows.symbolic.printers import define

    text, names = scalar_source(expr, d, "gradient")
    function = define(text, "gradient", engines.numba_functions())
    return njit(error_model="numpy")(function), names


def scalar_source(
    expr: Expr, d: int, name: str, second: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Source of (x1, .., xd, t, p1, ..) -> gradient components, for numbers.

    With ``second`` it gives the lower triangle of the Hessian by rows instead.

    Returns
    -------
    text : str
        Python source; its free names are in ``engines.scalar_functions()``.
    names : tuple of str
        The parameters, in the order of the last arguments.
    """
    from flows.symbolic import derivatives

    parts = _triangle(expr, d) if second else derivatives.components(expr, d)[0]
    return _source(parts, d, name)


def _triangle(expr: Expr, d: int) -> list[Expr]:
    """The lower triangle of the Hessian by rows."""
    from flows.symbolic import derivatives, vocabulary

    parts = derivatives.hessian_of(expr, d)
    n = vocabulary.inner_axes(d)
    if parts.unit:
        n = tuple(x / derivatives.SAFE for x in n)
    triangle = []
    for i in range(d):
        for j in range(i + 1):
            entry = parts.explicit.get((j, i), 0)
            entry += parts.mixed.get(i, 0) * n[j] + parts.mixed.get(j, 0) * n[i]
            entry += (parts.outer or 0) * n[i] * n[j]
            triangle.append(entry + ((parts.radial or 0) if i == j else 0))
    return triangle


def _source(parts: list[Expr], d: int, name: str) -> tuple[str, tuple[str, ...]]:
    """Source of (x1, .., xd, t, p1, ..) -> values of ``parts``, and the parameters."""
    from flows.symbolic import derivatives, printers, vocabulary

    axes = vocabulary.inner_axes(d)
    length = {vocabulary.RADIUS, derivatives.SAFE, derivatives.SQUARE}
    used = set().union(*(e.free_symbols for e in parts))
    rest = sorted(used - {*length, *axes, vocabulary.TIME}, key=str)
    arguments = [*axes, vocabulary.TIME, *rest]
    text = printers.source(
        parts, arguments, name, scalar=True, dimension=d if used & length else 0
    )
    return text, tuple(str(symbol) for symbol in rest)


def point_model(
    field: Any, d: int
) -> tuple[Callable[..., tuple[float, ...]], tuple[float, ...]] | None:
    """Value, gradient and Hessian of a formula at one point, in plain Python.

    Arrays of one number cost a hundred times what the number costs, and steps of one
    point are nothing else.

    Parameters
    ----------
    field : Field
    d : int
        Dimension of the points.

    Returns
    -------
    function : callable
        (x1, ..., xd, t, p1, ..., pk) -> V, the d slopes, and the lower triangle of the
        Hessian by rows. It raises ArithmeticError or ValueError, or returns complex
        numbers, where V has no derivatives.
    parameters : tuple of float

    None instead of the pair when there is no formula, or a parameter is no number.
    """
    return _with_parameters(_point_model, field, d)


@lru_cache(maxsize=128)
def _point_model(expr: Expr, d: int) -> tuple[Any, tuple[str, ...]]:
    from flows.symbolic import derivatives, printers

    value, _ = derivatives.split(expr, d)
    slopes, _ = derivatives.components(expr, d)
    text, names = _source([value, *slopes, *_triangle(expr, d)], d, "model")
    return printers.define(text, "model", engines.scalar_functions()), names
