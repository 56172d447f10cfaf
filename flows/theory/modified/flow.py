"""Fields that are formulas, or that torch differentiates, as flows of vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.arrays import namespace, rms
from flows.flow import Flow
from flows.spaces import Euclidean
from flows.symbolic import programs

if TYPE_CHECKING:
    from flows.theory.modified.models import CallableModel
    from flows.theory.modified.series import Tree

__all__ = ["CallableFlow", "FormulaFlow", "formula_flow"]

Array = Any
Expr = Any


class FieldFlow(Flow):
    """What flows of vectors share: the plain product and a norm for each point."""

    def inner(self, u: Array, a: Array, b: Array) -> Any:
        """a.b: one number, or (b,) for b points."""
        value = namespace(a).sum(a * b, axis=-1)
        return float(value) if value.ndim == 0 else value

    def norm(self, e: Array) -> Any:
        """Root mean square: one number, or (b,) for b points."""
        if e.ndim == 1:
            return rms(e)
        xp = namespace(e)
        return xp.sqrt(xp.mean(e * e, axis=-1))

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None


def formula_flow(
    symbols: Any, components: tuple[Expr, ...], energy: Expr | None
) -> FormulaFlow:
    """The flow of expressions in ``symbols``."""
    import sympy

    from flows.symbolic.vocabulary import from_sympy, inner_axes

    put = dict(zip(symbols, inner_axes(len(symbols)), strict=True))

    def inner(expr: Expr) -> Expr:
        return from_sympy(sympy.sympify(expr).xreplace(put))

    made = tuple(inner(a) for a in components)
    if energy is None:
        return FormulaFlow(Euclidean(), made)
    return EnergyFormulaFlow(Euclidean(), made, inner(energy))


@dataclass(frozen=True, eq=False)
class FormulaFlow(FieldFlow):
    """du/dt = components(u)."""

    space: Euclidean = field()
    components: tuple[Expr, ...]
    is_gradient = False

    def _check(self, u: Array) -> None:
        if u.shape[-1] != len(self.components):
            raise ValueError(
                f"The field has {len(self.components)} component(s), the state has "
                f"{u.shape[-1]}."
            )

    def velocity(self, t: Any, u: Array) -> Array:
        """The components at points (.., d)."""
        self._check(u)
        values = [programs.value(a, u, 0.0, {}) for a in self.components]
        return namespace(u).stack(values, axis=-1)

    def jacobian(self, t: Any, u: Array) -> Array:
        """Derivatives of the components, (.., d, d)."""
        self._check(u)
        rows = [programs.gradient(a, u, 0.0, {}) for a in self.components]
        return namespace(u).stack(rows, axis=-2)


@dataclass(frozen=True, eq=False)
class EnergyFormulaFlow(FormulaFlow):
    """A field of formulas that is minus the gradient of one more."""

    potential: Expr
    is_gradient = True

    def energy(self, t: Any, u: Array) -> Any:
        """The potential: one number, or (b,) for b points."""
        value = programs.value(self.potential, u, 0.0, {})
        return float(value) if value.ndim == 0 else value


@dataclass(frozen=True, eq=False)
class CallableFlow(FieldFlow):
    """du/dt = sum of weights times elementary differentials, by torch."""

    space: Euclidean = field(default_factory=Euclidean, init=False)
    model: CallableModel = field()
    weights: tuple[tuple[float, Tree], ...] = field(repr=False)
    is_gradient = False

    def velocity(self, t: Any, u: Array) -> Array:
        """The field at points (.., d)."""
        return self.model.weighted(list(self.weights), u)
