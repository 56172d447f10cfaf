"""First variations and evolution equations as sympy objects; loads sympy.

    dF/drho = V + T (log rho + 1) + U'(rho) + W * rho
    d_t rho = div(rho grad(dF/drho)) = Lap p(rho) + div(rho grad(V + W * rho)),

with p(rho) = rho U'(rho) - U(rho), which is T rho for the entropy. An energy is given
as a list of (kind, scale, function), kind one of "potential", "entropy", "internal" and
"interaction", function a ``Field`` or a ``DensityFunction``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy
from sympy import Derivative, Function, Integer

from flows.symbolic.formula_densities import derived
from flows.symbolic.vocabulary import RHO, TIME, coordinates, exact, to_sympy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Convolution", "first_variation", "latex_energy", "pde"]

Expr = Any
Formulas = Any
"""Sequence of (kind, scale, function)."""

_DENSITIES = ("entropy", "internal")


class Convolution(Function):  # type: ignore[misc]
    """W * rho: the integral of W(x - x') rho(t, x') over x', left unevaluated.

    Its arguments are W in the coordinates, and rho as a function of t and of them.
    Derivatives by a coordinate fall on W.
    """

    nargs = 2

    @classmethod
    def eval(cls, kernel: Expr, rho: Expr) -> Expr | None:
        return Integer(0) if kernel == 0 or rho == 0 else None

    def _eval_derivative(self, symbol: Expr) -> Expr:
        kernel, rho = self.args
        if symbol == TIME:
            return Convolution(kernel, rho.diff(symbol))
        return Convolution(_slope(kernel, symbol), rho)

    def _eval_is_extended_real(self) -> bool:
        return True

    def as_integral(self) -> Expr:
        """The integral over all of space, with dummy variables."""
        kernel, rho = self.args
        axes = [s for s in rho.free_symbols if s != TIME]
        axes.sort(key=str)
        there = [sympy.Symbol(f"{s.name}'", real=True) for s in axes]
        pairs = list(zip(axes, there, strict=True))
        shifted = kernel.subs([(s, s - u) for s, u in pairs], simultaneous=True)
        moved = rho.subs(pairs, simultaneous=True)
        limits = [(u, -sympy.oo, sympy.oo) for u in there]
        return sympy.Integral(shifted * moved, *limits)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        kernel, rho = self.args
        left = printer._print(kernel)
        if kernel.is_Add or kernel.is_Mul:
            left = rf"\left({left}\right)"
        text = rf"\left({left} * {printer._print(rho.func(*rho.args))}\right)"
        return text if exp is None else f"{text}^{{{exp}}}"

    def _sympystr(self, printer: Any) -> str:
        kernel, rho = self.args
        return f"(({printer._print(kernel)}) * {printer._print(rho)})"


class FluxDerivative(Derivative):  # type: ignore[misc]
    """Derivative of a product, which LaTeX of sympy prints without brackets."""

    def _latex(self, printer: Any, exp: Any = None) -> str:
        flux, x = self.expr, self.variables[0]
        head = rf"\frac{{\partial}}{{\partial {printer._print(x)}}}"
        text = rf"{head} \left[{printer._print(flux)}\right]"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


def _slope(expr: Expr, x: Expr) -> Expr:
    return expr.diff(x).subs(sympy.sign(x) / sympy.Abs(x), 1 / x)


def _dimension(formulas: Formulas, d: int | None) -> int:
    if d is not None:
        if isinstance(d, bool) or not isinstance(d, int) or d < 1:
            raise ValueError(f"`d` must be a positive integer, got {d!r}.")
        return d
    known: list[int | None] = [
        f.dimension for kind, _, f in formulas if kind not in _DENSITIES
    ]
    return max([1, *(n for n in known if n is not None)])


def _sum_of(formulas: Formulas, kind: str, d: int) -> Expr:
    """Sum of the scaled functions of a point of one kind."""
    total = Integer(0)
    for own, scale, function in formulas:
        if own == kind:
            expr = function.expr(d)
            if expr is None:
                axes = coordinates(d)
                timed = (TIME,) if function.time_dependent else ()
                expr = Function(function.name)(*axes, *timed)
            total += exact(scale) * expr
    return total


def _density(d: int) -> Expr:
    return Function("rho", real=True)(TIME, *coordinates(d))


def first_variation(formulas: Formulas, d: int | None = None) -> Expr:
    """V + T (log rho + 1) + U'(rho) + W * rho as a sympy expression.

    Parameters
    ----------
    formulas : sequence of (kind, scale, function)
    d : int, optional
        Dimension; by default the highest coordinate named, at least 1.
    """
    d = _dimension(formulas, d)
    rho = _density(d)
    total = _sum_of(formulas, "potential", d)
    total += Convolution(_sum_of(formulas, "interaction", d), rho)
    for kind, scale, function in formulas:
        if kind in _DENSITIES:
            expr = function.expr()
            if expr is None:
                slope = Function(f"{function.name}'")(rho)
            else:
                slope = sympy.factor_terms(expr.diff(RHO)).subs(RHO, rho)
            total += exact(scale) * slope
    return total


def pde(formulas: Formulas, d: int | None = None) -> Expr:
    """The equation d_t rho = Lap p(rho) + div(rho grad(V + W * rho)).

    Parameters
    ----------
    formulas : sequence of (kind, scale, function)
    d : int, optional
        Dimension; by default the highest coordinate named, at least 1.

    Returns
    -------
    sympy.Eq
        In rho = Function("rho")(t, x, ...); the derivatives are unevaluated, so that
        the divergence form stays visible (``.doit()`` carries them out).
    """
    d = _dimension(formulas, d)
    axes = coordinates(d)
    rho = _density(d)
    terms = [
        factor * Derivative(power, (x, 2))
        for factor, power in _pressures(formulas, rho)
        for x in axes
    ]
    V = _sum_of(formulas, "potential", d)
    W = _sum_of(formulas, "interaction", d)
    for x in axes:
        slope = _slope(V, x) + Convolution(_slope(W, x), rho)
        if slope != 0:
            terms.append(FluxDerivative(rho * slope, x))
    return sympy.Eq(Derivative(rho, TIME), sympy.Add(*terms), evaluate=False)


def _pressures(formulas: Formulas, rho: Expr) -> Iterable[tuple[Expr, Expr]]:
    """Factors and functions of rho that add up to the pressure."""
    total = Integer(0)
    for kind, scale, function in formulas:
        if kind in _DENSITIES:
            expr = function.expr()
            if expr is None:
                pressure = Function(f"p_{function.name}")(RHO)
            else:
                pressure = sympy.expand(to_sympy(derived(expr, -1)))
            total += exact(scale) * pressure
    for term in sympy.Add.make_args(sympy.expand(total)):
        if term != 0:
            factor, power = term.as_independent(RHO, as_Add=False)
            yield factor, power.subs(RHO, rho)


def latex_energy(formulas: Formulas) -> str:
    """LaTeX of the energy functional, with W written out behind it."""
    kernels: list[str] = []
    text = ""
    count = sum(kind == "interaction" for kind, _, _ in formulas)
    for kind, scale, function in formulas:
        sign = " - " if scale < 0 else " + " if text else ""
        size = exact(abs(scale)) / (2 if kind == "interaction" else 1)
        factor = "" if size == 1 else sympy.latex(size) + r"\,"
        if kind == "interaction":
            name = "W" if count == 1 else f"W_{{{len(kernels) + 1}}}"
            kernels.append(rf"{name}(x) = {function.latex()}")
        else:
            name = ""
        text += sign.lstrip() if not text else sign
        text += factor + _integral(kind, function, name)
    return r",\quad ".join([text or "0", *kernels])


def _integral(kind: str, function: Any, name: str) -> str:
    if kind == "potential":
        return rf"\int {_bracketed(function.latex())}\,d\rho"
    if kind == "interaction":
        return rf"\iint {name}(x - y)\,d\rho(x)\,d\rho(y)"
    return rf"\int {_bracketed(function.latex())}\,dx"


def _bracketed(text: str) -> str:
    return rf"\left({text}\right)" if " + " in text or " - " in text else text
