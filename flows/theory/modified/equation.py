"""Modified equations: what a scheme with the step h really integrates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import is_array
from flows.schemes import BDF, BDF2, Gonzalez, ItohAbe, Optimistic
from flows.schemes.base import Scheme
from flows.theory.modified import spelling
from flows.theory.modified.flow import CallableFlow, formula_flow
from flows.theory.modified.gradients import (
    contraction,
    integrated,
    is_curl_free,
    potential_weights,
)
from flows.theory.modified.maps import map_terms
from flows.theory.modified.models import CallableModel, Model, SymbolicModel, read
from flows.theory.modified.series import (
    Basis,
    Tree,
    basis,
    modified_coefficients,
    multistep_coefficients,
    scheme_coefficients,
    size,
    symmetry,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.flow import Flow

__all__ = ["ModifiedEquation", "Momentum", "modified_equation"]

Array = Any
Expr = Any
HIGHEST = 8


@dataclass(frozen=True)
class Momentum:
    """The iteration x_{k+1} = x_k + h velocity(x_k) + beta (x_k - x_{k-1}).

    Heavy ball descent as optimizers write it, with 0 <= beta < 1. To leading order it
    is the flow at the speed 1/(1 - beta).

    Parameters
    ----------
    beta : float
        0 <= beta < 1.

    Raises
    ------
    ValueError
        For another ``beta``.

    References
    ----------
    B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR
    Comput. Math. Math. Phys. 4 (1964) 1-17, doi:10.1016/0041-5553(64)90137-5.
    """

    beta: float

    def __post_init__(self) -> None:
        number = isinstance(self.beta, (int, float))
        if not number or not 0.0 <= self.beta < 1.0:
            raise ValueError(f"`beta` must be in [0, 1), got {self.beta!r}.")

    def iterates(
        self, flow: Flow, x0: Array, h: float, steps: int, before: Any = None
    ) -> list[Array]:
        """x_0 .. x_steps; ``before`` is x_{-1}, by default x_0."""
        if not is_array(x0):
            raise TypeError(f"`x0` must be an array, got {x0!r}.")
        x, last = x0, x0 if before is None else before
        path = [x]
        for k in range(steps):
            x, last = x + h * flow.velocity(k * h, x) + self.beta * (x - last), x
            path.append(x)
        return path


@dataclass(frozen=True, eq=False)
class ModifiedEquation:
    """du/dt = v + h v_2 + h^2 v_3 + .. through the iterates of a scheme.

    Attributes
    ----------
    method : Scheme or Momentum
    order : int
        Terms kept, up to h^(order - 1).
    coefficients : mapping of trees to numbers, or None
        b(tree) with v_k = sum over trees of k vertices of b / sigma F(tree), where F is
        v, v'v, v''(v, v), v'v'v ..; None for a scheme that is no series of trees.
    model : Model
        The equation before its discretization.
    """

    method: Any
    order: int
    model: Model
    coefficients: Mapping[Tree, Any] | None
    _terms: tuple[tuple[Expr, ...], ...] | None = field(default=None, repr=False)

    @property
    def h(self) -> Expr:
        """The symbol of the step."""
        import sympy

        return sympy.Symbol("h", positive=True)

    @cached_property
    def terms(self) -> tuple[tuple[Expr, ...], ...]:
        """The vectors v, v_2, .., v_order as sympy expressions.

        Raises
        ------
        TypeError
            For an energy that is a callable.
        """
        import sympy

        if self._terms is not None:
            return self._terms
        model = self.formulas()
        result = []
        for k in range(1, self.order + 1):
            total: list[Expr] = [sympy.Integer(0)] * len(model.symbols)
            for tree, b in (self.coefficients or {}).items():
                if size(tree) == k and b != 0:
                    vector = model.differential(tree)
                    weight = b / symmetry(tree)
                    total = [a + weight * c for a, c in zip(total, vector, strict=True)]
            result.append(tuple(sympy.expand(a) for a in total))
        return tuple(result)

    def formulas(self) -> SymbolicModel:
        """The model, with formulas; TypeError without."""
        if isinstance(self.model, SymbolicModel):
            return self.model
        raise TypeError(
            "A callable energy has no formula; `coefficients`, `print` and `flow(h)` "
            "of its modified equation work."
        )

    @cached_property
    def field(self) -> Expr:
        """The modified field as a sympy column in the coordinates and ``h``."""
        import sympy

        columns = zip(*self.terms, strict=True)
        return sympy.Matrix(
            [sum(self.h**k * a for k, a in enumerate(row)) for row in columns]
        )

    @cached_property
    def is_gradient(self) -> bool:
        """Whether the field is the gradient of something."""
        return is_curl_free(self.field, self.formulas().symbols)

    @cached_property
    def energy(self) -> Expr | None:
        """The energy of which the field is minus the gradient; None where it is none.

        It is found from the series (for which any two trees that differ by their root
        alone must have equal coefficients), or by integration. None also where that
        gives no formula, or where the model has no energy.
        """
        import sympy

        model = self.model
        if not isinstance(model, SymbolicModel) or model.energy is None:
            return None
        weights = None
        if self.coefficients is not None:
            weights = potential_weights(self.coefficients, model)
        if weights is not None:
            total: Expr = 0
            for tree, weight in weights.items():
                total += self.h ** (size(tree) - 1) * weight * contraction(model, tree)
        else:
            curled = not self.is_gradient
            total = None if curled else integrated(self.field, model.symbols)
        return None if total is None else sympy.collect(sympy.expand(total), self.h)

    @property
    def leading(self) -> int | None:
        """The smallest k > 0 whose term h^k does not vanish; None when all do."""
        if self.coefficients is None:
            sizes = [k for k, v in enumerate(self.terms, 1) if any(a != 0 for a in v)]
        else:
            sizes = [size(tree) for tree, b in self.coefficients.items() if b != 0]
        found = [k - 1 for k in sizes if k > 1]
        return min(found) if found else None

    def flow(self, h: float) -> Flow:
        """The modified equation with the step ``h`` as a flow, for ``solve``.

        Its exact solution agrees with the iterates of the scheme to O(h^order).

        Raises
        ------
        ValueError
            When ``h`` is no positive number.
        """
        if not isinstance(h, (int, float, np.floating)) or not 0.0 < h < math.inf:
            raise ValueError(f"`h` must be a positive number, got {h!r}.")
        h = float(h)
        if isinstance(self.model, CallableModel):
            field_weights = tuple(
                (float(b) / symmetry(tree) * h ** (size(tree) - 1), tree)
                for tree, b in (self.coefficients or {}).items()
                if b != 0
            )
            return CallableFlow(self.model, field_weights)
        model = self.formulas()
        put = {self.h: h}
        components = tuple(a.subs(put) for a in self.field)
        energy = None if self.energy is None else self.energy.subs(put)
        return formula_flow(model.symbols, components, energy)

    def __str__(self) -> str:
        return spelling.text(self)

    def __repr__(self) -> str:
        return f"ModifiedEquation({self.method!r}, order={self.order})"

    def latex(self) -> str:
        """The equation in LaTeX, in the coordinates; of a callable, in derivatives."""
        return spelling.latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


def number(value: float) -> Expr:
    """A fraction where the value is one to rounding, else the float."""
    import sympy

    near = Fraction(value).limit_denominator(2000)
    if abs(float(near) - value) <= 1e-11 * max(1.0, abs(value)):
        return sympy.Rational(near.numerator, near.denominator)
    return sympy.Float(value)


def modified_equation(
    method: Scheme | Momentum, model: Any, order: int = 2, *, dimension: Any = None
) -> ModifiedEquation:
    """The equation that ``method`` with the step h solves up to O(h^order).

        du/dt = v + h v_2 + .. + h^(order - 1) v_order

    Explicit Euler on an energy f follows the flow of f + h/4 |grad f|^2, implicit Euler
    that of f - h/4 |grad f|^2, simultaneous descent of a game v - h/2 v'v.

    Parameters
    ----------
    method : Scheme or Momentum
        A Runge-Kutta or Rosenbrock scheme; MinimizingMovement; a discrete gradient;
        BDF2, BDF (at its largest order) and Optimistic with equal steps; a Splitting
        (alternating descent), ForwardBackward and DouglasRachford of parts;
        StepDoubling; schemes of one's own that are made of such steps.
    model : energy, Problem, mapping, game, or sequence of formulas
        Smooth potentials; parts of a sum by their names, such as
        ``{"smooth": .., "prox": ..}``; ``learning.game(..)``; or the components of any
        field, such as ``("-y", "x")``.
    order : int
        From 1 to 8; 1 is the velocity itself.
    dimension : int, optional
        Of an energy that fits every dimension, such as ``"r**2/2"``: 1 by default.

    Returns
    -------
    ModifiedEquation
        ``field`` and ``energy`` in sympy, ``flow(h)`` for ``solve``.

    Raises
    ------
    TypeError, ValueError
        For other schemes and models.

    References
    ----------
    E. Hairer, Ch. Lubich, G. Wanner, Geometric Numerical Integration, Springer 2006,
    chapter IX, doi:10.1007/3-540-30666-8.
    D. G. T. Barrett, B. Dherin, Implicit gradient regularization, ICLR (2021),
    arXiv:2009.11162.

    Examples
    --------
    >>> import flows as fl
    >>> fl.theory.modified_equation(fl.Euler(), fl.Potential("x**2/2")).energy
    h*x**2/4 + x**2/2
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"`order` must be a positive integer, got {order!r}.")
    if order > HIGHEST:
        raise ValueError(f"`order` must be at most {HIGHEST}, got {order}.")
    if not isinstance(method, (Scheme, Momentum)):
        raise TypeError(
            "`method` must be a scheme such as Euler() or Momentum(0.9), got "
            f"{method!r}."
        )
    source = read(model, dimension)
    if isinstance(method, (Gonzalez, ItohAbe)):
        if not isinstance(source, SymbolicModel) or source.energy is None:
            raise TypeError(f"`{method!r}` needs an energy that is a formula.")
        terms = map_terms(method, source, order)
        return ModifiedEquation(method, order, source, None, terms)
    trees = basis(order, source.colors)
    if isinstance(method, Momentum):
        b = multistep_coefficients(trees, {1: 1.0, -1: method.beta}, {0: 1.0})
    elif isinstance(method, (BDF, BDF2)):
        b = backward_coefficients(trees, method.order)
    elif isinstance(method, Optimistic):
        b = multistep_coefficients(trees, {1: 1.0}, {0: 2.0, -1: -1.0})
    else:
        step = scheme_coefficients(method, trees, source.names)
        b = modified_coefficients(trees, step)
    coefficients = dict(zip(trees.trees, map(number, b[1:]), strict=True))
    return ModifiedEquation(method, order, source, coefficients)


def backward_coefficients(trees: Basis, k: int) -> Array:
    """The field of sum_{j=1..k} (1 - shift)^j/j x(t + h) = h v(x(t + h))."""
    weights = [0.0] * (k + 1)
    for j in range(1, k + 1):
        for i in range(j + 1):
            weights[i] += (-1) ** i * math.comb(j, i) / j
    alpha = {1 - i: weight for i, weight in enumerate(weights) if i != 1}
    return multistep_coefficients(trees, alpha, {1: 1.0})
