"""Functions of a density, U(rho): the interface, entropy and powers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import is_torch, namespace
from flows.symbolic.formulas import number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DensityFunction",
    "EntropyFunction",
    "PowerFunction",
    "convex_on_positive",
    "densities",
]

Array = Any
Expr = Any


def densities(rho: Any) -> Array:
    """``rho`` as an array; numbers that are not floats become float64."""
    if is_torch(rho):
        return rho if rho.is_floating_point() else rho.double()
    rho = np.asarray(rho)
    return rho if rho.dtype.kind == "f" else rho.astype(np.float64)


class DensityFunction:
    """A function U of a density rho >= 0, entry by entry; what ``Internal`` holds."""

    parameters: Any = None
    name: Any = "U"

    def value(self, rho: Array) -> Array:
        """U(rho)."""
        raise NotImplementedError

    def first(self, rho: Array) -> Array:
        """U'(rho)."""
        raise NotImplementedError

    def second(self, rho: Array) -> Array:
        """U''(rho)."""
        raise NotImplementedError

    def pressure(self, rho: Array) -> Array:
        """rho U'(rho) - U(rho)."""
        rho = densities(rho)
        return rho * self.first(rho) - self.value(rho)

    def enthalpy_slope(self, rho: Array) -> Array:
        """rho U''(rho), the derivative of the pressure."""
        rho = densities(rho)
        return rho * self.second(rho)

    def expr(self) -> Expr | None:
        """Sympy expression in the symbol rho, None if unknown."""
        return None

    def latex(self) -> str:
        """LaTeX of the formula; the name of the function when there is none."""
        import sympy

        expr = self.expr()
        return rf"{self.name}(\rho)" if expr is None else str(sympy.latex(expr))

    def with_parameters(self, parameters: Mapping[str, Any]) -> DensityFunction:
        """The same function with some of its named parameters changed."""
        known = ", ".join(self.parameters or {}) or "none"
        raise ValueError(
            f"{self.name} = {self!r} has no parameter(s) "
            f"{', '.join(map(repr, parameters))}; known: {known}."
        )

    def probe(self, rho: Array, derivatives: int = 2) -> None:
        """Evaluate once, up to ``derivatives``, before a loop relies on it."""
        for evaluate in (self.value, self.first, self.second)[: derivatives + 1]:
            evaluate(rho)


def _check_factors(coefficient: Any, slope: Any) -> tuple[float, float]:
    values = number(coefficient), number(slope)
    for name, value in zip(("coefficient", "slope"), values, strict=True):
        if value is None or not math.isfinite(value):
            raise ValueError(f"`{name}` must be a finite number.")
    if values[0] == 0.0:
        raise ValueError("`coefficient` must not be 0.")
    return values  # type: ignore[return-value]


@dataclass(frozen=True)
class EntropyFunction(DensityFunction):
    """U(rho) = c rho log rho + a rho, with 0 log 0 = 0: linear diffusion c Lap rho.

    Parameters
    ----------
    coefficient : float
        The factor c.
    slope : float
        The factor a, which changes the energy by a constant and no flow.
    """

    coefficient: float = 1.0
    slope: float = 0.0

    def __post_init__(self) -> None:
        c, a = _check_factors(self.coefficient, self.slope)
        object.__setattr__(self, "coefficient", c)
        object.__setattr__(self, "slope", a)

    def value(self, rho: Array) -> Array:
        rho = densities(rho)
        if is_torch(rho):
            found = rho.xlogy(rho)
        else:
            from scipy.special import xlogy

            found = xlogy(rho, rho)
        if self.coefficient != 1.0:
            found = self.coefficient * found
        return found + self.slope * rho if self.slope else found

    def first(self, rho: Array) -> Array:
        rho = densities(rho)
        with np.errstate(all="ignore"):
            found = namespace(rho).log(rho)
        c = self.coefficient
        return (found if c == 1.0 else c * found) + (c + self.slope)

    def second(self, rho: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.coefficient / densities(rho)

    def pressure(self, rho: Array) -> Array:
        return self.coefficient * densities(rho)

    def enthalpy_slope(self, rho: Array) -> Array:
        rho = densities(rho)
        return namespace(rho).full_like(rho, self.coefficient)

    def expr(self) -> Expr:
        import sympy

        from flows.symbolic.vocabulary import RHO, exact

        return exact(self.coefficient) * RHO * sympy.log(RHO) + exact(self.slope) * RHO

    def __repr__(self) -> str:
        head = "" if self.coefficient == 1.0 else f"{self.coefficient!r}*"
        sign = "-" if self.slope < 0 else "+"
        tail = f" {sign} {abs(self.slope)!r}*rho" if self.slope else ""
        return f'"{head}rho*log(rho){tail}"'


@dataclass(frozen=True)
class PowerFunction(DensityFunction):
    """U(rho) = c rho^m/(m - 1) + a rho: porous medium, d_t rho = c Lap rho^m.

    Parameters
    ----------
    m : float
        Exponent, positive and not 1; m < 1 is fast diffusion.
    coefficient : float
        The factor c.
    slope : float
        The factor a, which changes the energy by a constant and no flow.

    Raises
    ------
    ValueError
        For other exponents.
    """

    m: float
    coefficient: float = 1.0
    slope: float = 0.0

    def __post_init__(self) -> None:
        m = number(self.m)
        if m is None:
            raise TypeError(f"The exponent `m` must be a number, got {self.m!r}.")
        if not (math.isfinite(m) and m > 0 and m != 1.0):
            raise ValueError(
                f"The exponent `m` must be positive and not 1, got {m}; "
                "m = 1 is `Entropy`."
            )
        c, a = _check_factors(self.coefficient, self.slope)
        object.__setattr__(self, "m", m)
        object.__setattr__(self, "coefficient", c)
        object.__setattr__(self, "slope", a)

    def value(self, rho: Array) -> Array:
        rho = densities(rho)
        found = _scaled(self.coefficient / (self.m - 1), rho, self.m)
        return found + self.slope * rho if self.slope else found

    def first(self, rho: Array) -> Array:
        m = self.m
        found = _scaled(self.coefficient * m / (m - 1), densities(rho), m - 1)
        return found + self.slope if self.slope else found

    def second(self, rho: Array) -> Array:
        return _scaled(self.coefficient * self.m, densities(rho), self.m - 2)

    def pressure(self, rho: Array) -> Array:
        return _scaled(self.coefficient, densities(rho), self.m)

    def enthalpy_slope(self, rho: Array) -> Array:
        return _scaled(self.coefficient * self.m, densities(rho), self.m - 1)

    def expr(self) -> Expr:
        from flows.symbolic.vocabulary import RHO, exact

        factor = exact(self.coefficient) / exact(self.m - 1)
        return factor * RHO ** exact(self.m) + exact(self.slope) * RHO

    def __repr__(self) -> str:
        c, a = self.coefficient, self.slope
        if c == 1.0 and not a:
            return f"PowerFunction({self.m:g})"
        return f"PowerFunction({self.m:g}, coefficient={c!r}, slope={a!r})"


def _scaled(factor: float, rho: Array, p: float) -> Array:
    """factor * rho^p, with products for small integers."""
    with np.errstate(all="ignore"):
        match p:
            case 0.0:
                return namespace(rho).full_like(rho, factor)
            case 1.0:
                return factor * rho
            case 2.0:
                return factor * (rho * rho)
            case 3.0:
                return factor * (rho * rho * rho)
            case -1.0:
                return factor / rho
            case 0.5:
                return factor * namespace(rho).sqrt(rho)
        return factor * rho**p


def convex_on_positive(function: DensityFunction) -> bool:
    """Whether U'' >= 0 at 181 densities from 1e-6 to 1e3, to rounding."""
    rho = np.logspace(-6.0, 3.0, 181)
    second = function.second(rho)
    size = np.abs(second) * 1e-9
    return bool(np.all(np.isfinite(second) & (second >= -size)))
