"""Functions of a density from formulas and from Python, and what they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.arrays import is_torch, namespace
from flows.symbolic import autodiff, programs
from flows.symbolic.density import (
    DensityFunction,
    EntropyFunction,
    PowerFunction,
    densities,
)
from flows.symbolic.formulas import check_parameters, formula, is_sympy, show
from flows.symbolic.formulas import substitute as put_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CallableDensity", "SymbolicDensity", "derived", "recognize", "recognized"]

Array = Any
Expr = Any


@dataclass(frozen=True, eq=False, repr=False)
class SymbolicDensity(DensityFunction):
    """A formula in the density ``rho`` and named parameters.

    Parameters
    ----------
    source : str or sympy.Expr
    parameters : mapping, optional
        Values of all other names: numbers, or arrays and tensors that broadcast against
        the densities. They are arguments of the compiled code.
    name : str
        Name of the function, for messages.

    Notes
    -----
    Where the formula is undefined at rho = 0 (``rho*log(rho)``), its limit is taken.

    Raises
    ------
    ValueError
        For a string that is not a plain formula, and for unknown names.
    """

    source: Any
    parameters: Any = None
    name: str = "U"
    formula: Any = field(init=False)

    def __post_init__(self) -> None:
        from flows.symbolic import vocabulary

        if not isinstance(self.source, str) and not is_sympy(self.source):
            raise TypeError(
                f"`{self.name}` must be a string or a sympy expression, got "
                f"{type(self.source).__name__}."
            )
        parameters = check_parameters(self.parameters, self.name)
        symbols = {"rho": vocabulary.RHO}
        expr, _ = formula(
            self.source, symbols.get, parameters, self.name, "the density rho, pi, e"
        )
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "formula", expr)

    def _at(self, order: int, rho: Array) -> Array:
        from flows.symbolic.vocabulary import RHO

        rho = densities(rho)
        expr = derived(self.formula, order)
        found = programs.elementwise(expr, RHO, 0, rho, 0.0, self.parameters)
        limit = _limit(put_in(expr, self.parameters))
        if limit is None:
            return found
        xp = namespace(rho)
        return xp.where(rho == 0, xp.full_like(rho, limit), found)

    def value(self, rho: Array) -> Array:
        return self._at(0, rho)

    def first(self, rho: Array) -> Array:
        return self._at(1, rho)

    def second(self, rho: Array) -> Array:
        return self._at(2, rho)

    def pressure(self, rho: Array) -> Array:
        return self._at(-1, rho)

    def enthalpy_slope(self, rho: Array) -> Array:
        return self._at(-2, rho)

    def expr(self) -> Expr:
        from flows.symbolic.vocabulary import to_sympy

        return to_sympy(self.formula)

    def with_parameters(self, parameters: Mapping[str, Any]) -> DensityFunction:
        """The same formula, already compiled, with other values of its parameters."""
        unknown = {k: v for k, v in parameters.items() if k not in self.parameters}
        if unknown:
            return super().with_parameters(unknown)
        return replace(self, parameters={**self.parameters, **parameters})

    def __repr__(self) -> str:
        if not self.parameters:
            return show(self.source)
        return f"{show(self.source)}, parameters={self.parameters!r}"


@lru_cache(maxsize=512)
def derived(expr: Expr, order: int) -> Expr:
    """U, U', U'' for orders 0, 1, 2; rho U' - U for -1 and rho U'' for -2."""
    import sympy

    from flows.symbolic.vocabulary import RHO

    if order >= 0:
        for _ in range(order):
            expr = expr.diff(RHO)
        return expr
    if order == -2:
        return sympy.expand_mul(RHO * expr.diff(RHO).diff(RHO))
    # Linear terms cancel here, exactly.
    return sympy.expand_mul(RHO * expr.diff(RHO) - expr)


@lru_cache(maxsize=512)
def _limit(expr: Expr) -> float | None:
    """Limit at rho = 0 where putting in 0 gives nothing; None if that is not needed."""
    import sympy

    from flows.symbolic.vocabulary import RHO, to_sympy

    plain = to_sympy(expr)
    if not plain.subs(RHO, 0).has(sympy.nan):
        return None
    try:
        limit = sympy.limit(plain, RHO, 0, "+")
        return float(limit)
    except (ArithmeticError, NotImplementedError, TypeError, ValueError):
        return None


@dataclass(frozen=True, eq=False, repr=False, init=False)
class CallableDensity(DensityFunction):
    """A Python function of densities, entry by entry.

    Parameters
    ----------
    function : callable
        ``function(rho)`` returns an array of the shape of ``rho``.
    first, second : callable, optional
        Its derivatives. By default torch differentiates ``function``, which then must
        take tensors; when only ``first`` is given, ``second`` is a central difference
        of it, accurate to about 1e-9 in float64.
    name : str
        Name of the function, for messages.
    """

    function: Callable[..., Any]
    # Not called `first` and `second`, which are the methods.
    derivative: Callable[..., Any] | None = None
    curvature: Callable[..., Any] | None = None
    name: str = "U"

    def __init__(
        self,
        function: Callable[..., Any],
        first: Callable[..., Any] | None = None,
        second: Callable[..., Any] | None = None,
        name: str = "U",
    ) -> None:
        for one, owner in ((function, name), (first, "first"), (second, "second")):
            if one is not None or owner == name:
                autodiff.check_arity(one, 1, owner, "(rho)")
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "derivative", first)
        object.__setattr__(self, "curvature", second)
        object.__setattr__(self, "name", name)

    def value(self, rho: Array) -> Array:
        rho = densities(rho)
        return autodiff.call(self.function, rho, (), tuple(rho.shape), self.name)

    def first(self, rho: Array) -> Array:
        rho = densities(rho)
        shape = tuple(rho.shape)
        if self.derivative is not None:
            return autodiff.call(self.derivative, rho, (), shape, "first")
        return autodiff.slopes(self.function, rho, (), shape, self.name)

    def second(self, rho: Array) -> Array:
        rho = densities(rho)
        shape = tuple(rho.shape)
        if self.curvature is not None:
            return autodiff.call(self.curvature, rho, (), shape, "second")
        if self.derivative is None:
            return autodiff.slopes_and_rows(self.function, rho, (), shape, self.name)
        xp = namespace(rho)
        base = float(xp.finfo(rho.dtype).eps) ** (1 / 3)
        step = base * xp.clip(rho, min=base)
        above, below = rho + step, xp.clip(rho - step, min=0.0)
        return (self.first(above) - self.first(below)) / (above - below)

    def probe(self, rho: Array, derivatives: int = 2) -> None:
        """Call each function that will be used once, on a copy, and check its result.

        Raises
        ------
        TypeError, ValueError
            Naming the function (U, ``first``, ``second``) and what is wrong.
        """
        rho = densities(rho)
        functions = (
            (self.function, self.name),
            (self.derivative, "first"),
            (self.curvature, "second"),
        )
        for function, owner in functions[: derivatives + 1]:
            if function is not None:
                after = rho.detach().clone() if is_torch(rho) else rho.copy()
                autodiff.call(function, after, (), tuple(rho.shape), owner)
                autodiff.check_untouched(after, rho, owner)
        super().probe(rho, derivatives)

    def __repr__(self) -> str:
        inner = getattr(self.function, "__qualname__", None) or repr(self.function)
        return inner.replace("<locals>.", "")


def recognize(expr: Expr) -> tuple[str, float] | tuple[str, float, float] | None:
    """What a formula in rho is, up to a linear term that moves nothing.

    Parameters
    ----------
    expr : sympy.Expr
        In the symbol rho, without other symbols.

    Returns
    -------
    ("entropy", c) for c rho log rho, ("power", m, c) for c rho^m with m > 0 and m != 1,
    else None.
    """
    parts = _parts(expr)
    return None if parts is None else parts[0]


def recognized(expr: Expr) -> DensityFunction | None:
    """The built-in function that equals a formula, None when there is none."""
    parts = _parts(expr)
    if parts is None:
        return None
    kind, slope = parts
    if len(kind) == 2:
        return EntropyFunction(kind[1], slope)
    _, m, c = kind
    return PowerFunction(m, c * (m - 1), slope)


def _parts(expr: Expr) -> tuple[Any, float] | None:
    import sympy

    from flows.symbolic.vocabulary import RHO, to_sympy

    large = any(
        p.base.is_Add and p.exp.is_number and abs(p.exp) > 4
        for p in expr.atoms(sympy.Pow)
    )
    if expr.free_symbols != {RHO} or large or expr.count_ops() > 60:
        return None
    found: dict[Any, Any] = {}
    expanded = sympy.expand(sympy.expand_log(sympy.expand(to_sympy(expr))))
    for term in sympy.Add.make_args(expanded):
        factor, rest = term.as_independent(RHO, as_Add=False)
        found[rest] = found.get(rest, 0) + factor
    slope = found.pop(RHO, sympy.Integer(0))
    found = {rest: factor for rest, factor in found.items() if factor != 0}
    if len(found) != 1 or not slope.is_number:
        return None
    ((rest, factor),) = found.items()
    c = float(factor)
    if rest == RHO * sympy.log(RHO):
        return ("entropy", c), float(slope)
    base, exponent = rest.as_base_exp()
    if base == RHO and exponent.is_number and exponent > 0 and exponent != 1:
        return ("power", float(exponent), c), float(slope)
    return None
