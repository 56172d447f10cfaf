"""Gradients of formulas at one point, as functions of numbers for compiled loops."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from flows.symbolic import engines

__all__ = ["numba_gradient", "scalar_source"]

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
    expr = field.inner_expr(d)
    if expr is None:
        return None
    function, names = _compiled_gradient(expr, d)
    values = tuple((field.parameters or {})[name] for name in names)
    if not all(isinstance(v, float) for v in values):
        return None
    return function, values


@lru_cache(maxsize=128)
def _compiled_gradient(expr: Expr, d: int) -> tuple[Any, tuple[str, ...]]:
    from numba import njit

    from flows.symbolic.printers import define

    text, names = scalar_source(expr, d, "gradient")
    function = define(text, "gradient", engines.numba_functions())
    return njit(error_model="numpy")(function), names


def scalar_source(expr: Expr, d: int, name: str) -> tuple[str, tuple[str, ...]]:
    """Source of (x1, .., xd, t, p1, ..) -> gradient components, for numbers.

    Returns
    -------
    text : str
        Python source; its free names are in ``engines.scalar_functions()``.
    names : tuple of str
        The parameters, in the order of the last arguments.
    """
    from flows.symbolic import derivatives, printers, vocabulary

    parts, _ = derivatives.components(expr, d)
    axes = vocabulary.inner_axes(d)
    length = {vocabulary.RADIUS, derivatives.SAFE, derivatives.SQUARE}
    used = set().union(*(e.free_symbols for e in parts))
    rest = sorted(used - {*length, *axes, vocabulary.TIME}, key=str)
    arguments = [*axes, vocabulary.TIME, *rest]
    text = printers.source(
        parts, arguments, name, scalar=True, dimension=d if used & length else 0
    )
    return text, tuple(str(symbol) for symbol in rest)
