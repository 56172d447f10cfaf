"""Symbols and functions of formulas; loads sympy, so it is itself loaded on first use.

Kinks are functions of their own inside the library: the ones of sympy ask the
assumption system for signs, which takes seconds on long formulas, and their second
derivatives are Dirac deltas. Here abs'(0) = sign(0) = 0 and sign' = 0, and a tie of
``min`` or ``max`` shares the derivative. ``to_sympy`` translates back for display.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sympy
from sympy import Function, Integer, Rational, Symbol

__all__ = [
    "CALLS",
    "CONSTANTS",
    "RADIUS",
    "RHO",
    "TIME",
    "absolute",
    "axes_of",
    "axis",
    "coordinates",
    "exact",
    "expm1",
    "from_sympy",
    "heaviside",
    "inner_axes",
    "log1p",
    "logcosh",
    "maximum",
    "minimum",
    "parameter",
    "power",
    "rename",
    "sigmoid",
    "signum",
    "softplus",
    "to_sympy",
]

Expr = Any

TIME = Symbol("t", real=True)
RADIUS = Symbol("r", nonnegative=True)
RHO = Symbol("rho", positive=True)
_HALF = Rational(1, 2)


@lru_cache(maxsize=4096)
def axis(index: int) -> Symbol:
    """Symbol x1, x2, ... that stands for the coordinate ``index`` (from 0) inside."""
    return Symbol(f"x{index + 1}", real=True)


def axes_of(symbols: set[Any], d: int) -> list[int]:
    """Indices below ``d`` of the coordinates x1, x2, ... among symbols, in order."""
    # Asking for each of d coordinates would take seconds where d is large.
    digits = (s.name[1:] for s in symbols if s.name[:1] == "x")
    near = {int(text) - 1 for text in digits if text.isdecimal()}
    return sorted(i for i in near if 0 <= i < d and axis(i) in symbols)


@lru_cache(maxsize=64)
def inner_axes(d: int) -> tuple[Symbol, ...]:
    """Symbols x1..xd, under which formulas are stored."""
    return tuple(axis(i) for i in range(d))


@lru_cache(maxsize=64)
def coordinates(d: int) -> tuple[Symbol, ...]:
    """Symbols that formulas in ``d`` dimensions show: x, y, z, or x1..xd for d > 3."""
    if d > 3:
        return inner_axes(d)
    return tuple(Symbol(name, real=True) for name in "xyz"[:d])


def rename(expr: Expr, d: int) -> Expr:
    """Formula in the symbols ``coordinates(d)`` instead of x1..xd."""
    return expr.xreplace(dict(zip(inner_axes(d), coordinates(d), strict=True)))


def exact(value: float) -> Expr:
    """Sympy number: an integer, a fraction with a small power of two below, a float."""
    if float(value * 64).is_integer():
        return Rational(value)
    return sympy.Float(value)


def parameter(name: str) -> Symbol:
    """Symbol of a named parameter."""
    return Symbol(name, real=True)


class _Kink(Function):  # type: ignore[misc]
    nargs = 1

    def _eval_is_extended_real(self) -> bool:
        return True


class signum(_Kink):
    """Sign of u, 0 at 0, with derivative 0."""

    @classmethod
    def eval(cls, u: Expr) -> Expr | None:
        return sympy.sign(u) if u.is_Rational or u.is_Float else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return Integer(0)

    def _eval_evalf(self, prec: int) -> Expr:
        return sympy.sign(self.args[0])._eval_evalf(prec)

    def _latex(self, printer: Any) -> str:
        return rf"\operatorname{{sign}}\left({printer._print(self.args[0])}\right)"


class absolute(_Kink):
    """Absolute value of u, with derivative ``signum``."""

    @classmethod
    def eval(cls, u: Expr) -> Expr | None:
        if u.is_Rational or u.is_Float:
            return sympy.Abs(u)
        if isinstance(u, absolute):
            return u
        return cls(-u) if u.could_extract_minus_sign() else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return signum(self.args[0])

    def _eval_power(self, exponent: Expr) -> Expr | None:
        if exponent.is_Integer and exponent.is_even:
            return self.args[0] ** exponent
        return None

    def _eval_is_nonnegative(self) -> bool:
        return True

    def _eval_evalf(self, prec: int) -> Expr:
        return sympy.Abs(self.args[0])._eval_evalf(prec)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"\left|{printer._print(self.args[0])}\right|"
        return text if exp is None else rf"{text}^{{{exp}}}"


class heaviside(_Kink):
    """Step at 0 with value 1/2 there and derivative 0."""

    @classmethod
    def eval(cls, u: Expr) -> Expr | None:
        if u.is_Rational or u.is_Float:
            return (1 + sympy.sign(u)) / 2
        return None

    def fdiff(self, argindex: int = 1) -> Expr:
        return Integer(0)

    def _eval_evalf(self, prec: int) -> Expr:
        return sympy.Heaviside(self.args[0])._eval_evalf(prec)


class _Extremum(Function):  # type: ignore[misc]
    nargs = 2

    def _eval_is_extended_real(self) -> bool:
        return True


class maximum(_Extremum):
    """Larger of two values; at a tie both share the derivative."""

    @classmethod
    def eval(cls, u: Expr, v: Expr) -> Expr | None:
        if u == v:
            return u
        if all(w.is_Rational or w.is_Float for w in (u, v)):
            return sympy.Max(u, v)
        return None

    def fdiff(self, argindex: int = 1) -> Expr:
        u, v = self.args
        return heaviside(u - v if argindex == 1 else v - u)

    def _eval_evalf(self, prec: int) -> Expr:
        return sympy.Max(*self.args)._eval_evalf(prec)


class minimum(_Extremum):
    """Smaller of two values; at a tie both share the derivative."""

    @classmethod
    def eval(cls, u: Expr, v: Expr) -> Expr | None:
        if u == v:
            return u
        if all(w.is_Rational or w.is_Float for w in (u, v)):
            return sympy.Min(u, v)
        return None

    def fdiff(self, argindex: int = 1) -> Expr:
        u, v = self.args
        return heaviside(v - u if argindex == 1 else u - v)

    def _eval_evalf(self, prec: int) -> Expr:
        return sympy.Min(*self.args)._eval_evalf(prec)


class power(Function):  # type: ignore[misc]
    """u^p with a symbolic p; sympy would write its derivative as p u^p / u.

    That quotient is 0/0 at u = 0.
    """

    nargs = 2

    @classmethod
    def eval(cls, u: Expr, p: Expr) -> Expr | None:
        return u**p if p.is_number else None

    def fdiff(self, argindex: int = 1) -> Expr:
        u, p = self.args
        if argindex == 1:
            return p * power(u, p - 1)
        return power(u, p) * sympy.log(u)

    def _eval_is_extended_real(self) -> bool:
        return True

    def _eval_evalf(self, prec: int) -> Expr:
        return (self.args[0] ** self.args[1])._eval_evalf(prec)


class _Smooth(Function):  # type: ignore[misc]
    nargs = 1

    @staticmethod
    def formula(u: Expr) -> Expr:
        raise NotImplementedError

    def _eval_is_extended_real(self) -> bool | None:
        real: bool | None = self.args[0].is_extended_real
        return real

    def _eval_evalf(self, prec: int) -> Expr:
        return self.formula(self.args[0])._eval_evalf(prec)


class log1p(_Smooth):
    """log(1 + u), accurate for small u."""

    @staticmethod
    def formula(u: Expr) -> Expr:
        return sympy.log(1 + u)

    def fdiff(self, argindex: int = 1) -> Expr:
        return 1 / (1 + self.args[0])


class expm1(_Smooth):
    """exp(u) - 1, accurate for small u."""

    @staticmethod
    def formula(u: Expr) -> Expr:
        return sympy.exp(u) - 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.exp(self.args[0])


class sigmoid(_Smooth):
    """1 / (1 + exp(-u)), without overflow."""

    @staticmethod
    def formula(u: Expr) -> Expr:
        return 1 / (1 + sympy.exp(-u))

    def fdiff(self, argindex: int = 1) -> Expr:
        u = self.args[0]
        return sigmoid(u) * sigmoid(-u)


class softplus(_Smooth):
    """log(1 + exp(u)), without overflow."""

    @staticmethod
    def formula(u: Expr) -> Expr:
        return sympy.log(1 + sympy.exp(u))

    def fdiff(self, argindex: int = 1) -> Expr:
        return sigmoid(self.args[0])


class logcosh(_Smooth):
    """log(cosh(u)), without overflow and accurate for small u."""

    @staticmethod
    def formula(u: Expr) -> Expr:
        return sympy.log(sympy.cosh(u))

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.tanh(self.args[0])


CONSTANTS = {"pi": sympy.pi, "e": sympy.E}

CALLS: dict[str, Any] = {
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "asin": sympy.asin,
    "acos": sympy.acos,
    "atan": sympy.atan,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "asinh": sympy.asinh,
    "acosh": sympy.acosh,
    "atanh": sympy.atanh,
    "erf": sympy.erf,
    "erfc": sympy.erfc,
    "log1p": log1p,
    "expm1": expm1,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "logcosh": logcosh,
    "abs": absolute,
    "Abs": absolute,
    "sign": signum,
    "heaviside": heaviside,
    "min": minimum,
    "max": maximum,
    "Min": minimum,
    "Max": maximum,
}


def _fold(function: Any) -> Any:
    def nested(*arguments: Expr) -> Expr:
        result, *others = arguments
        for other in others:
            result = function(result, other)
        return result

    return nested


def _step(u: Expr, at_zero: Expr = _HALF) -> Expr:
    if at_zero == _HALF:
        return heaviside(u)
    return sympy.Piecewise((heaviside(u), sympy.Ne(u, 0)), (at_zero, True))


def from_sympy(expr: Expr) -> Expr:
    """Replace sympy's kinks and symbolic powers by the ones of this module."""
    pairs = [
        (sympy.Abs, absolute),
        (sympy.sign, signum),
        (sympy.Heaviside, _step),
        (sympy.Max, _fold(maximum)),
        (sympy.Min, _fold(minimum)),
    ]
    for theirs, ours in pairs:
        if expr.has(theirs):
            expr = expr.replace(theirs, ours)
    powers = [p for p in expr.atoms(sympy.Pow) if not p.exp.is_number or p.exp.is_Float]
    if powers:
        expr = expr.replace(sympy.Pow, _steady_power)
    return expr


def _steady_power(base: Expr, exponent: Expr) -> Expr:
    if exponent.is_Float and float(exponent).is_integer():
        return base ** Integer(int(exponent))
    if exponent.is_number or base.is_number:
        return base**exponent
    return power(base, exponent)


def to_sympy(expr: Expr) -> Expr:
    """Replace the functions of this module by sympy's own."""
    pairs: list[tuple[Any, Any]] = [
        (absolute, sympy.Abs),
        (signum, sympy.sign),
        (heaviside, sympy.Heaviside),
        (maximum, sympy.Max),
        (minimum, sympy.Min),
        (power, sympy.Pow),
        *[(f, f.formula) for f in (log1p, expm1, sigmoid, softplus, logcosh)],
    ]
    for ours, theirs in pairs:
        if expr.has(ours):
            expr = expr.replace(ours, theirs)
    return expr
