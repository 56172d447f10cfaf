"""What a modified equation is made for: an energy, a game, or a field, as formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, import_torch, is_torch
from flows.energies import Energy, Potential
from flows.learning.games import GameFlow
from flows.problems.base import Problem
from flows.symbolic.formulas import substitute

if TYPE_CHECKING:
    from flows.theory.modified.series import Tree

__all__ = ["CallableModel", "Model", "SymbolicModel", "read"]

Array = Any
Expr = Any
Vector = tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """du/dt = sum of parts; one part each for the players of a game."""

    names: tuple[str, ...]

    @property
    def colors(self) -> int:
        """Number of parts."""
        return max(1, len(self.names))


@dataclass(frozen=True, eq=False)
class SymbolicModel(Model):
    """Parts as sympy expressions in ``symbols``; ``energy`` of a gradient field.

    Elementary differentials are cached, they share their branches.
    """

    symbols: tuple[Expr, ...]
    parts: tuple[Vector, ...]
    energy: Expr | None
    _known: dict[Any, Vector] = field(default_factory=dict, repr=False)

    def differential(self, tree: Tree) -> Vector:
        """F(tree): the derivative of the root's part along the branches' vectors."""
        if tree not in self._known:
            import sympy

            color, branches = tree
            along = [self.differential(branch) for branch in branches]
            self._known[tree] = tuple(
                sympy.expand(self.derivative(expr, along)) for expr in self.parts[color]
            )
        return self._known[tree]

    def derivative(self, expr: Expr, along: list[Vector]) -> Expr:
        """Derivative of ``expr`` along vectors that count as constant."""
        if not along:
            return expr
        first, rest = along[0], along[1:]
        return sum(
            a * self.derivative(expr.diff(x), rest)
            for a, x in zip(first, self.symbols, strict=True)
            if a != 0
        )


@dataclass(frozen=True, eq=False)
class CallableModel(Model):
    """The gradient flow of an energy that torch differentiates, in any dimension."""

    functional: Energy

    def velocity(self, x: Array) -> Array:
        """Minus the gradient as a function that torch can differentiate further."""
        import torch

        plain = torch.func.grad(lambda y: self.plain(y).sum())
        return -plain(x)

    def plain(self, x: Array) -> Array:
        """Energies of points (.., d) from the user's functions alone."""
        total = 0.0
        for term in self.functional.terms:
            function = getattr(term.function, "function", None)
            value = term.function.value if function is None else function
            try:
                total = total + term.scale * value(x)
            except TypeError as error:
                raise TypeError(
                    "The modified equation of a callable energy differentiates it by "
                    f"torch, but with a tensor {term!r} raised: {error}"
                ) from error
        return total

    def differential(self, tree: Tree, x: Array) -> Array:
        """F(tree) at x by nested derivatives along vectors that stay constant."""
        import torch

        def along(g: Callable[[Array], Array], w: Array) -> Callable[[Array], Array]:
            def slope(y: Array) -> Array:
                # J w as the transpose of u -> J^T u: few functions know J w itself.
                value, pull = torch.func.vjp(g, y)
                _, push = torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(value))
                return push(w)[0]

            return slope

        g: Callable[[Array], Array] = self.velocity
        for branch in tree[1]:
            g = along(g, self.differential(branch, x).detach())
        return g(x)

    def weighted(self, weights: list[tuple[float, Tree]], u: Array) -> Array:
        """Sum of weights times elementary differentials at points u (.., d)."""
        torch = import_torch("The modified equation of a callable energy")
        x = u.detach() if is_torch(u) else torch.as_tensor(np.array(u))
        total = sum(w * self.differential(tree, x) for w, tree in weights)
        return array_like(total, u)


def read(model: Any, dimension: int | None) -> Model:
    """The model of what the user gave.

    Raises
    ------
    TypeError, ValueError
        For anything but a smooth energy, a game of such, or the components of a field.
    """
    if isinstance(model, Problem):
        model = model.flow if model.energy is None else model.energy
    if isinstance(model, Energy):
        return read_energy(model, dimension)
    if isinstance(model, GameFlow):
        return read_game(model)
    if isinstance(model, Mapping) and len(model) > 0:
        return read_parts(model, dimension)
    if isinstance(model, Sequence) and not isinstance(model, str) and len(model) > 0:
        return read_field(model)
    own = getattr(model, "functional", None)
    if isinstance(own, Energy):
        raise TypeError(
            f"A modified equation is made for an energy, got a flow: give {own!r}."
        )
    raise TypeError(
        "A modified equation is made for an energy such as Potential('x**4/4'), for a "
        "mapping of names to energies, for a game, or for the components of a field "
        f"such as ('-y', 'x'); got {model!r}."
    )


def check_terms(energy: Energy) -> None:
    """Refuse what is no smooth potential that stays the same in time."""
    for term in energy.terms:
        if not isinstance(term, Potential):
            raise TypeError(
                f"A modified equation needs potentials of vectors, got {term!r}."
            )
        if term.time_dependent:
            raise TypeError(f"{term!r} depends on time; a modified equation may not.")
        if not term.function.smooth:
            raise TypeError(f"{term!r} has kinks, where no modified equation exists.")


def formula(energy: Energy, d: int) -> Expr | None:
    """The sum of the terms in the symbols of d dimensions, None for a callable."""
    from flows.symbolic.vocabulary import exact

    total: Expr = 0
    for term in energy.terms:
        expr = term.function.expr(d)
        if expr is None:
            return None
        expr = substitute(expr, term.function.parameters or {})
        total = total + exact(term.scale) * expr
    return plain(total)


def plain(expr: Expr) -> Expr:
    """The formula with sympy's own functions."""
    import sympy

    from flows.symbolic.vocabulary import to_sympy

    return to_sympy(sympy.sympify(expr))


def read_energy(energy: Energy, dimension: int | None) -> Model:
    """A gradient flow."""
    from flows.symbolic import coordinates

    check_terms(energy)
    own = {term.function.dimension for term in energy.terms} - {None}
    d = dimension or max(own, default=1)
    total = formula(energy, d)
    if total is None:
        return CallableModel((), energy)
    symbols = coordinates(d)
    part = tuple(-total.diff(x) for x in symbols)
    return SymbolicModel((), tuple(symbols), (part,), total)


def read_parts(energies: Mapping[str, Any], dimension: int | None) -> Model:
    """One part for each energy of a sum, for schemes that treat them differently."""
    from flows.symbolic import coordinates

    for name, energy in energies.items():
        if not isinstance(energy, Energy):
            raise TypeError(f"The part {name!r} must be an energy, got {energy!r}.")
        check_terms(energy)
    terms = [term for energy in energies.values() for term in energy.terms]
    own = {term.function.dimension for term in terms} - {None}
    d = dimension or max(own, default=1)
    symbols, parts = coordinates(d), []
    for name, energy in energies.items():
        total = formula(energy, d)
        if total is None:
            raise TypeError(f"The part {name!r} must be a formula, got {energy!r}.")
        parts.append(tuple(-total.diff(x) for x in symbols))
    return SymbolicModel(tuple(energies), tuple(symbols), tuple(parts), None)


def read_game(game: GameFlow) -> Model:
    """One part for each player."""
    from flows.symbolic import coordinates

    n = len(next(iter(game.masks.values())))
    symbols, parts = coordinates(n), []
    for name, loss in game.losses.items():
        check_terms(loss)
        total = formula(loss, n)
        if total is None:
            raise TypeError(f"The loss of {name!r} must be a formula, got {loss!r}.")
        mask = game.masks[name]
        parts.append(
            tuple(
                -total.diff(x) if own else total * 0
                for x, own in zip(symbols, mask, strict=True)
            )
        )
    return SymbolicModel(tuple(game.losses), tuple(symbols), tuple(parts), None)


def read_field(components: Sequence[Any]) -> Model:
    """A field from its components, text or sympy."""
    from flows.symbolic import SymbolicField, coordinates
    from flows.symbolic.vocabulary import rename

    n = len(components)
    part = []
    for i, source in enumerate(components):
        found = SymbolicField(source, name=f"v{i + 1}")
        own = found.dimension or 1
        if own > n or found.time_dependent or "r" in found.names:
            raise ValueError(
                f"Component {i + 1} of the field, {source!r}, must be a formula in the "
                f"{n} coordinate(s) alone."
            )
        part.append(plain(rename(found.formula, n)))
    return SymbolicModel((), tuple(coordinates(n)), (tuple(part),), None)
