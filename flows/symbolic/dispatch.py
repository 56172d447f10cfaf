"""From what a user gives to a function with derivatives, by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.symbolic.callables import CallableField
from flows.symbolic.density import DensityFunction, EntropyFunction
from flows.symbolic.fields import Constant, Field
from flows.symbolic.formula_densities import (
    CallableDensity,
    SymbolicDensity,
    recognized,
)
from flows.symbolic.formula_fields import SymbolicField
from flows.symbolic.formulas import is_sympy, number, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["density_function", "field"]


def field(
    source: Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    hessian: Callable[..., Any] | None = None,
    time_dependent: bool = False,
    name: str = "V",
) -> Field:
    """Function of a point from a formula, a callable, a number or a ``Field``.

    Parameters
    ----------
    source : str, sympy.Expr, callable, number or Field
    parameters : mapping, optional
        Values of the named parameters of a formula; of a Field, those to change.
    gradient, hessian, time_dependent
        Of a callable only, see ``CallableField``.
    name : str
        Name of the function, for messages.

    Raises
    ------
    TypeError, ValueError
        Naming what was given and what is allowed.
    """
    if callable(source) and not isinstance(source, Field) and not is_sympy(source):
        _refuse_parameters(parameters, name)
        return CallableField(source, gradient, hessian, time_dependent, name)
    if gradient is not None or hessian is not None:
        raise TypeError(
            f"`gradient=` and `hessian=` belong to a callable; `{name}` is "
            f"{type(source).__name__} and has exact derivatives of its own."
        )
    found = _plain_field(source, parameters, name)
    if time_dependent and not found.time_dependent:
        raise ValueError(
            f"`time_dependent=True`, but {name} = {found!r} does not depend on time; "
            "a formula says it by naming t."
        )
    return found


def _plain_field(source: Any, parameters: Mapping[str, Any] | None, name: str) -> Field:
    if isinstance(source, Field):
        return source.with_parameters(parameters) if parameters else source
    constant = number(source)
    if constant is not None:
        _refuse_parameters(parameters, name)
        return Constant(constant, name)
    if isinstance(source, str) or is_sympy(source):
        return SymbolicField(source, parameters, name)
    raise TypeError(
        f"`{name}` must be a string such as 'x**2/2', a sympy expression, a callable, "
        f"or a number, got {type(source).__name__}."
    )


def _refuse_parameters(parameters: Mapping[str, Any] | None, name: str) -> None:
    if parameters:
        raise TypeError(
            f"`parameters=` belongs to formulas; `{name}` is a Python object that can "
            "hold its own values."
        )


def density_function(
    source: Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    first: Callable[..., Any] | None = None,
    second: Callable[..., Any] | None = None,
    name: str = "U",
) -> DensityFunction:
    """Function of a density from a formula in ``rho``, a callable or a built-in one.

    A formula that equals c rho log rho or c rho^m up to a linear term becomes an
    ``EntropyFunction`` or a ``PowerFunction``.

    Parameters
    ----------
    source : str, sympy.Expr, callable or DensityFunction
    parameters : mapping, optional
        Values of the named parameters of a formula.
    first, second : callable, optional
        Derivatives of a callable, see ``CallableDensity``.
    name : str
        Name of the function, for messages.

    Raises
    ------
    TypeError, ValueError
        Naming what was given and what is allowed.
    """
    built_in = isinstance(source, DensityFunction)
    if callable(source) and not built_in and not is_sympy(source):
        _refuse_parameters(parameters, name)
        return CallableDensity(source, first, second, name)
    if first is not None or second is not None:
        raise TypeError(
            f"`first=` and `second=` belong to a callable; `{name}` is "
            f"{type(source).__name__} and has exact derivatives of its own."
        )
    if built_in:
        found: DensityFunction = source
        return found.with_parameters(parameters) if parameters else found
    if source == "rho*log(rho)" and not parameters:
        return EntropyFunction()
    if isinstance(source, str) or is_sympy(source):
        formula = SymbolicDensity(source, parameters, name)
        return recognized(substitute(formula.formula, formula.parameters)) or formula
    raise TypeError(
        f"`{name}` must be a string in the density, such as 'rho**2', a sympy "
        f"expression or a callable, got {type(source).__name__}."
    )
