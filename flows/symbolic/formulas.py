"""What formulas may name, and the values of their parameters."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import all_finite, dtype_name, is_torch
from flows.symbolic import parser

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check_parameters",
    "coordinate_index",
    "formula",
    "is_sympy",
    "number",
    "show",
    "substitute",
]

Expr = Any

_RESERVED = {"r", "t", "rho", "pi", "e", "abs", "Abs", "min", "max", "Min", "Max"}
_RESERVED |= set(parser.FUNCTIONS.split(", "))


def coordinate_index(name: str) -> int | None:
    """Index of the coordinate that ``name`` means: x, y, z or x1, x2, ...; or None."""
    if name in ("x", "y", "z"):
        return "xyz".index(name)
    if re.fullmatch(r"x[1-9][0-9]{0,2}", name):
        return int(name[1:]) - 1
    return None


def is_sympy(source: Any) -> bool:
    """Whether ``source`` is a sympy object (never imports sympy)."""
    sympy = sys.modules.get("sympy")
    return sympy is not None and isinstance(source, sympy.Basic)


def number(value: Any) -> float | None:
    """Python float of a real number, NumPy scalars included; None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    if is_sympy(value) and value.is_number and value.is_real:
        return float(value)
    return None


def check_parameters(
    parameters: Mapping[str, Any] | None, owner: str
) -> dict[str, Any]:
    """Copy of named values: Python floats, NumPy arrays or torch tensors.

    Raises
    ------
    TypeError, ValueError
        For names that formulas reserve, and for values that are no finite numbers.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise TypeError(
            "`parameters` must map names to numbers, as in parameters={'k': 2.0}; "
            f"got {type(parameters).__name__}."
        )
    return {name: _check_parameter(name, v, owner) for name, v in parameters.items()}


def _check_parameter(name: Any, value: Any, owner: str) -> Any:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"`parameters` of {owner}: {name!r} is not a plain name.")
    if name in _RESERVED or coordinate_index(name) is not None:
        raise ValueError(
            f"`parameters` of {owner}: the name {name!r} already has a meaning in "
            "formulas (coordinates x, y, z, x1, ...; r, t, rho, pi, e; functions); "
            "choose another one."
        )
    if is_torch(value) and dtype_name(value) in ("float32", "float64"):
        found = value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.ndim:
        found = np.array(value, dtype=np.result_type(value.dtype, np.float32))
    else:
        found = number(value.item() if _is_zero_d(value) else value)
        if found is None:
            raise TypeError(
                f"`parameters` of {owner}: {name!r} must be a real number, an array or "
                f"a floating-point tensor, got {value!r}."
            )
    if not (all_finite(found) if hasattr(found, "shape") else np.isfinite(found)):
        raise ValueError(f"`parameters` of {owner}: {name!r} is not finite: {value!r}.")
    return found


def _is_zero_d(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0


def formula(
    source: Any,
    symbol_of: Callable[[str], Any],
    parameters: dict[str, Any],
    owner: str,
    listed: str,
) -> tuple[Expr, frozenset[str]]:
    """Expression and names of a string or of a sympy expression.

    Parameters
    ----------
    source : str or sympy.Expr
    symbol_of : callable
        Symbol of a name with a fixed meaning, or None.
    parameters : dict
        All other names must be among its keys.
    owner, listed : str
        For messages: what the formula is, and the fixed names in words.

    Raises
    ------
    ValueError
        For names without meaning, or parameters that do not occur.
    """
    if isinstance(source, str):
        syntax = parser.read(source, owner)
        names = syntax.names - {"pi", "e"}
    else:
        names = frozenset(symbol.name for symbol in source.free_symbols)
    unknown = sorted(
        name for name in names if symbol_of(name) is None and name not in parameters
    )
    if unknown:
        example = ", ".join(f'"{name}": 1.0' for name in unknown)
        raise ValueError(
            f"{owner} = {show(source)} contains the unknown name(s) "
            f"{', '.join(map(repr, unknown))}; known are {listed}"
            f"{''.join(f', {name}' for name in parameters)}. "
            f"Give other constants as parameters={{{example}}}."
        )
    idle = sorted(set(parameters) - names)
    if idle:
        raise ValueError(
            f"`parameters` has {', '.join(map(repr, idle))}, which {owner} = "
            f"{show(source)} does not name."
        )
    from flows.symbolic import printers, vocabulary

    symbols = {
        name: symbol_of(name) if name not in parameters else vocabulary.parameter(name)
        for name in names
    }
    if isinstance(source, str):
        return parser.translate(syntax, symbols), names
    renamed = source.xreplace({s: symbols[s.name] for s in source.free_symbols})
    expr = vocabulary.from_sympy(renamed)
    printers.check_printable(expr, owner)
    return expr, names


def substitute(expr: Expr, parameters: Mapping[str, Any]) -> Expr:
    """Put in the parameters that are plain numbers."""
    from flows.symbolic import vocabulary

    values = {
        vocabulary.parameter(name): vocabulary.exact(value)
        for name, value in parameters.items()
        if isinstance(value, float)
    }
    return vocabulary.from_sympy(expr.subs(values)) if values else expr


def show(source: Any) -> str:
    """A formula as its user typed it, in double quotes when it was text."""
    return f'"{source}"' if isinstance(source, str) else str(source)
