"""Formulas as functions with exact derivatives, on NumPy, torch and numba.

A function of a point (``Field``) or of a density (``DensityFunction``) comes from text,
from sympy, or from a Python callable: ``field`` and ``density_function`` choose.
Text goes through a whitelist parser. sympy is loaded when a formula first needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flows.symbolic.callables import CallableField
from flows.symbolic.density import (
    DensityFunction,
    EntropyFunction,
    PowerFunction,
    convex_on_positive,
)
from flows.symbolic.dispatch import density_function, field
from flows.symbolic.fields import Constant, Field
from flows.symbolic.formula_densities import (
    CallableDensity,
    SymbolicDensity,
    recognize,
)
from flows.symbolic.formula_fields import SeparableField, SymbolicField
from flows.symbolic.parser import parse
from flows.symbolic.quadratics import QuadraticField
from flows.symbolic.scalar_programs import numba_gradient

if TYPE_CHECKING:
    from flows.symbolic.variation import (
        Convolution,
        first_variation,
        latex_energy,
        pde,
    )
    from flows.symbolic.vocabulary import RADIUS, RHO, TIME, coordinates

__all__ = [
    "RADIUS",
    "RHO",
    "TIME",
    "CallableDensity",
    "CallableField",
    "Constant",
    "Convolution",
    "DensityFunction",
    "EntropyFunction",
    "Field",
    "PowerFunction",
    "QuadraticField",
    "SeparableField",
    "SymbolicDensity",
    "SymbolicField",
    "convex_on_positive",
    "coordinates",
    "density_function",
    "field",
    "first_variation",
    "latex_energy",
    "numba_gradient",
    "parse",
    "pde",
    "recognize",
]

_LOADS_SYMPY = {
    "Convolution": "variation",
    "first_variation": "variation",
    "latex_energy": "variation",
    "pde": "variation",
    "RADIUS": "vocabulary",
    "RHO": "vocabulary",
    "TIME": "vocabulary",
    "coordinates": "vocabulary",
}


def __getattr__(name: str) -> Any:
    if name in _LOADS_SYMPY:
        module = importlib.import_module(f"{__name__}.{_LOADS_SYMPY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
