"""Functions of a point from formulas, with exact first and second derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.arrays import namespace
from flows.symbolic import programs
from flows.symbolic.fields import Field, points, unknown_parameters
from flows.symbolic.formulas import (
    check_parameters,
    coordinate_index,
    formula,
    is_sympy,
    show,
    substitute,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SeparableField", "SymbolicField"]

Array = Any
Expr = Any


@dataclass(frozen=True, eq=False, repr=False)
class _Formula(Field):
    """A formula with named parameters, from text or sympy."""

    source: Any
    parameters: Any = None
    name: str = "V"
    formula: Any = field(init=False)
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) and not is_sympy(self.source):
            raise TypeError(
                f"`{self.name}` must be a string or a sympy expression, got "
                f"{type(self.source).__name__}."
            )
        if is_sympy(self.source) and not hasattr(self.source, "as_expr"):
            raise TypeError(f"`{self.name}` = {self.source} is no sympy expression.")
        parameters = check_parameters(self.parameters, self.name)
        expr, names = formula(
            self.source, self._symbol, parameters, self.name, self._listed()
        )
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "formula", expr)
        object.__setattr__(self, "names", names)

    def _symbol(self, name: str) -> Any:
        raise NotImplementedError

    def _listed(self) -> str:
        raise NotImplementedError

    @property
    def time_dependent(self) -> bool:
        return "t" in self.names

    @property
    def smooth(self) -> bool:
        return _is_smooth(substitute(self.formula, self.parameters))

    def with_parameters(self, parameters: Mapping[str, Any]) -> Field:
        """The same formula, already compiled, with other values of its parameters.

        Raises
        ------
        ValueError
            For a name that the formula does not have.
        """
        unknown = {k: v for k, v in parameters.items() if k not in self.parameters}
        if unknown:
            raise unknown_parameters(unknown, self)
        return replace(self, parameters={**self.parameters, **parameters})

    def _typed(self) -> str:
        if not self.parameters:
            return show(self.source)
        return f"{show(self.source)}, parameters={self.parameters!r}"


class SymbolicField(_Formula):
    """A formula in the coordinates x, y, z (or x1, x2, ...), r = abs(x) and time t.

    Parameters
    ----------
    source : str or sympy.Expr
        The formula. Symbols of a sympy expression are matched by name.
    parameters : mapping, optional
        Values of all other names: numbers, or arrays and tensors that broadcast against
        the values (..). They are arguments of the compiled code, so that they can be
        swept without compiling again, and torch differentiates by them.
    name : str
        Name of the function, for messages.

    Notes
    -----
    The highest coordinate named is the last one of the points; ``"x + 0*y"`` names y.
    A formula without coordinates, or in r alone, takes points of every dimension. At
    the origin, where r has a kink, the gradient of the radial part is 0.

    Raises
    ------
    ValueError
        For a string that is not a plain formula, and for unknown names.

    Examples
    --------
    >>> SymbolicField("(x**2 - 1)**2 / 4").gradient([2.0])
    array([6.])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        d = self.dimension or 1
        if d > 1:
            from flows.symbolic import derivatives

            # The root of x^2 + y^2 is r, with its kink, however it is typed.
            named = derivatives.name_lengths(self.formula, d)
            object.__setattr__(self, "formula", named)

    def _symbol(self, name: str) -> Any:
        from flows.symbolic import vocabulary

        fixed = {"r": vocabulary.RADIUS, "t": vocabulary.TIME}
        index = coordinate_index(name)
        return fixed.get(name) if index is None else vocabulary.axis(index)

    def _listed(self) -> str:
        return "the coordinates x, y, z (or x1, x2, ...), r = |x|, t, pi, e"

    @property
    def dimension(self) -> int | None:
        return _dimension(self.names)

    def check_dimension(self, d: int) -> None:
        """Raise ValueError unless the highest coordinate named is the last one."""
        own = _dimension(self.names)
        if own is None or own == d:
            return
        if own > d:
            raise ValueError(
                f"{self.name} = {show(self.source)} names {_axis_name(own, own)}, but "
                f"the points have {d} coordinate(s)."
            )
        last = _axis_name(d, d)
        if isinstance(self.source, str) and own == 1:
            each = f"`fl.separable({show(self.source)})` for the sum over coordinates, "
        else:
            each = ""
        raise ValueError(
            f"{self.name} = {show(self.source)} names no coordinate beyond "
            f"{_axis_name(own, d)}, but the points have {d}. Write {each}r = |x| which "
            f"fits every dimension (as in `r**2/2`), or add `+ 0*{last}` when the "
            f"value shall not depend on {last}."
        )

    def probe(self, x: Array, t: float = 0.0, derivatives: int = 1) -> None:
        """One point tells what all do, unless a parameter is an array."""
        x = points(x)
        if not any(getattr(v, "ndim", 0) for v in self.parameters.values()):
            x = x.reshape(-1, x.shape[-1])[:1]
        super().probe(x, t, derivatives)

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        return programs.value(self.formula, x, t, self.parameters)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        return programs.gradient(self.formula, x, t, self.parameters)

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        self.check_dimension(x.shape[-1])
        return programs.hessian(self.formula, x, t, self.parameters)

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        return self.products(x, t)(v)

    def products(
        self, x: Array, t: Any = 0.0, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        x = points(x)
        self.check_dimension(x.shape[-1])
        return programs.hessian_products(self.formula, x, t, self.parameters)

    def expr(self, d: int) -> Expr:
        self.check_dimension(d)
        return _display(self.formula, d)

    def inner_expr(self, d: int) -> Expr:
        self.check_dimension(d)
        return self.formula

    def latex(self, d: int | None = None) -> str:
        """LaTeX of the formula, with r written as r when ``d`` is not given."""
        import sympy

        from flows.symbolic import vocabulary

        if d is not None:
            return str(sympy.latex(self.expr(d)))
        shown = vocabulary.rename(self.formula, self.dimension or 1)
        return str(sympy.latex(vocabulary.to_sympy(shown)))

    def __repr__(self) -> str:
        return self._typed()


class SeparableField(_Formula):
    """The sum over all coordinates of a formula in the one variable x.

    Parameters
    ----------
    source : str or sympy.Expr
        Formula in x and time t.
    parameters : mapping, optional
        Values of all other names; arrays and tensors broadcast against points (.., d),
        so an array (d,) gives each coordinate its own.
    name : str
        Name of the function, for messages.
    """

    def _symbol(self, name: str) -> Any:
        from flows.symbolic import vocabulary

        fixed = {
            "x": vocabulary.axis(0),
            "x1": vocabulary.axis(0),
            "t": vocabulary.TIME,
        }
        return fixed.get(name)

    def _listed(self) -> str:
        return "the one variable x, t, pi, e"

    def each(self, order: int, x: Array, t: Any = 0.0) -> Array:
        """Derivative of ``order`` of each coordinate's part at x (.., d), (.., d)."""
        from flows.symbolic.vocabulary import axis

        return programs.elementwise(self.formula, axis(0), order, x, t, self.parameters)

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        return namespace(x).sum(self.each(0, x, t), axis=-1)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        return self.each(1, points(x), t)

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        second = self.each(2, x, t)
        xp = namespace(x)
        eye = xp.eye(x.shape[-1], dtype=x.dtype, device=getattr(x, "device", None))
        return xp.where(eye != 0, second[..., None], xp.zeros_like(eye))

    def hessian_product(self, x: Array, v: Array, t: Any = 0.0) -> Array:
        return self.products(x, t)(v)

    def products(
        self, x: Array, t: Any = 0.0, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        second = self.each(2, points(x), t)
        return lambda v: second * v

    def expr(self, d: int) -> Expr:
        import sympy

        from flows.symbolic import vocabulary

        return sympy.Add(
            *[
                vocabulary.to_sympy(self.formula.xreplace({vocabulary.axis(0): symbol}))
                for symbol in vocabulary.coordinates(d)
            ]
        )

    def latex(self, d: int | None = None) -> str:
        """LaTeX of the sum, over an index i when ``d`` is not given."""
        import sympy

        from flows.symbolic import vocabulary

        if d is not None:
            return str(sympy.latex(self.expr(d)))
        shown = vocabulary.to_sympy(self.formula)
        each = shown.xreplace({vocabulary.axis(0): sympy.Symbol("x_i", real=True)})
        text = sympy.latex(each)
        return rf"\sum_i \left({text}\right)" if each.is_Add else rf"\sum_i {text}"

    def __repr__(self) -> str:
        return f"SeparableField({self._typed()})"


@lru_cache(maxsize=512)
def _dimension(names: frozenset[str]) -> int | None:
    indices = [i for i in map(coordinate_index, names) if i is not None]
    return max(indices) + 1 if indices else None


def _axis_name(i: int, d: int) -> str:
    return "xyz"[i - 1] if d <= 3 else f"x{i}"


@lru_cache(maxsize=512)
def _is_smooth(expr: Expr) -> bool:
    import sympy

    from flows.symbolic import derivatives, vocabulary

    # |u|^p has continuous second derivatives for p >= 2.
    gentle = {
        p: sympy.Dummy(real=True)
        for p in expr.atoms(sympy.Pow)
        if isinstance(p.base, vocabulary.absolute) and p.exp.is_number and p.exp >= 2
    }
    kinks = (
        *(vocabulary.absolute, vocabulary.signum, vocabulary.heaviside),
        *(vocabulary.maximum, vocabulary.minimum, sympy.Piecewise),
    )
    if expr.xreplace(gentle).has(*kinks):
        return False
    return derivatives.radial_is_smooth(expr, 2)


@lru_cache(maxsize=512)
def _display(expr: Expr, d: int) -> Expr:
    """Formula as sympy's own functions of the symbols that users see."""
    import sympy

    from flows.symbolic import vocabulary

    axes = vocabulary.inner_axes(d)
    length = (
        sympy.Abs(axes[0]) if d == 1 else sympy.sqrt(sympy.Add(*[x**2 for x in axes]))
    )
    shown = vocabulary.to_sympy(expr).subs(vocabulary.RADIUS, length)
    return vocabulary.rename(shown, d)
