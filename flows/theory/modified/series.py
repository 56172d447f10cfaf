"""Series over rooted trees, and what a scheme really integrates.

A step with the velocity v is a series over rooted trees (a B-series)

    u + sum over trees of  h^|tree| a(tree) / sigma(tree) F(tree)(u),
    F([t_1 .. t_m]) = v^(m)(F(t_1), .., F(t_m)),

and so is the modified equation whose exact flow passes through the iterates. Vertices
may have colors, one for each part of a velocity v = v_0 + v_1 + ..

The coefficients of a scheme are not read from a table: its own ``step`` is run on the
series, which can be added and multiplied as states can.

References
----------
E. Hairer, Ch. Lubich, G. Wanner, Geometric Numerical Integration, Springer 2006,
chapters III and IX, doi:10.1007/3-540-30666-8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.flow import Flow
from flows.schemes import (
    AverageVectorField,
    DouglasRachford,
    Exact,
    ForwardBackward,
    Splitting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flows.flow import Memory
    from flows.schemes.base import Scheme

__all__ = [
    "Basis",
    "Tree",
    "basis",
    "leaf",
    "modified_coefficients",
    "multistep_coefficients",
    "rootings",
    "scheme_coefficients",
    "size",
    "symmetry",
]

Array = np.ndarray
Tree = tuple[int, tuple[Any, ...]]
"""Color of the root, and the branches in sorted order."""


def leaf(color: int = 0) -> Tree:
    """The tree of one vertex."""
    return color, ()


def size(tree: Tree) -> int:
    """Number of vertices."""
    return 1 + sum(map(size, tree[1]))


def symmetry(tree: Tree) -> int:
    """Order sigma of the group of symmetries that fix the root."""
    result = 1
    for branch in set(tree[1]):
        times = tree[1].count(branch)
        result *= math.factorial(times) * symmetry(branch) ** times
    return result


def grafted(tree: Tree, new: Tree) -> Iterator[Tree]:
    """All trees with ``new`` attached to one vertex."""
    color, branches = tree
    yield color, tuple(sorted((*branches, new)))
    for i, branch in enumerate(branches):
        for grown in grafted(branch, new):
            yield color, tuple(sorted((*branches[:i], grown, *branches[i + 1 :])))


def cuts(tree: Tree) -> Iterator[tuple[Tree, Tree]]:
    """For every edge, what is left at the root and what is cut off."""
    color, branches = tree
    for i, branch in enumerate(branches):
        others = (*branches[:i], *branches[i + 1 :])
        yield (color, others), branch
        for rest, cut in cuts(branch):
            yield (color, tuple(sorted((*others, rest)))), cut


def rootings(tree: Tree) -> list[Tree]:
    """The same tree with each vertex in turn as its root."""

    def visit(color: int, branches: tuple[Any, ...], up: tuple[Any, ...]) -> Any:
        yield color, tuple(sorted((*branches, *up)))
        for i, (c, below) in enumerate(branches):
            above = color, tuple(sorted((*branches[:i], *branches[i + 1 :], *up)))
            yield from visit(c, below, (above,))

    return list(visit(tree[0], tree[1], ()))


@dataclass(frozen=True, eq=False)
class Basis:
    """The trees of at most ``order`` vertices in ``colors`` colors.

    A series is an array (1 + trees,); its first entry is the coefficient of u.
    """

    order: int
    colors: int

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        """All trees, small ones first."""
        levels = [{leaf(c) for c in range(self.colors)}]
        for _ in range(self.order - 1):
            levels.append(
                {
                    grown
                    for tree, c in product(levels[-1], range(self.colors))
                    for grown in grafted(tree, leaf(c))
                }
            )
        return tuple(tree for level in levels for tree in sorted(level))

    @cached_property
    def index(self) -> Mapping[Tree, int]:
        """Position of each tree in a series."""
        return {tree: i for i, tree in enumerate(self.trees, 1)}

    @cached_property
    def _branches(self) -> list[tuple[int, list[int]]]:
        return [(t[0], [self.index[b] for b in t[1]]) for t in self.trees]

    @cached_property
    def _cuts(self) -> list[list[tuple[int, int]]]:
        return [
            [(self.index[rest], self.index[cut]) for rest, cut in cuts(tree)]
            for tree in self.trees
        ]

    @cached_property
    def sizes(self) -> Array:
        """Vertices of each tree, 0 for u itself."""
        return np.array([0, *map(size, self.trees)])

    def identity(self) -> Array:
        """The series of u."""
        return np.array([1.0, *([0.0] * len(self.trees))])

    def velocity(self, u: Array, color: int | None = None) -> Array:
        """The series of h v(u), or of one part of it, for u = identity + .."""
        if abs(u[0] - 1.0) > 1e-9:
            raise TypeError("a velocity was evaluated at what is no state")
        result = np.zeros(len(self.trees) + 1)
        for i, (c, branches) in enumerate(self._branches, 1):
            if color is None or c == color:
                result[i] = np.prod(u[branches]) if branches else 1.0
        return result

    def jacobian(self, u: Array, color: int | None = None) -> Array:
        """The matrix w -> h v'(u) w on series w without the term u."""
        result = np.zeros((len(self.trees) + 1,) * 2)
        for i, (c, branches) in enumerate(self._branches, 1):
            if color is None or c == color:
                for k, branch in enumerate(branches):
                    others = branches[:k] + branches[k + 1 :]
                    result[i, branch] += np.prod(u[others]) if others else 1.0
        return result

    def derivative(self, c: Array, b: Array) -> Array:
        """Derivative of the series c along the field b: one edge is cut."""
        result: Array = c[0] * b
        for i, pairs in enumerate(self._cuts, 1):
            result[i] += sum(c[rest] * b[cut] for rest, cut in pairs)
        result[0] = 0.0
        return result

    def flow(self, b: Array, time: float) -> Array:
        """The exact flow of the field b: sum of time^k/k! derivatives of u."""
        total, power = self.identity(), self.identity()
        for k in range(1, self.order + 1):
            power = self.derivative(power, b)
            total = total + time**k / math.factorial(k) * power
        return total


@lru_cache(maxsize=16)
def basis(order: int, colors: int = 1) -> Basis:
    """The basis, made once."""
    return Basis(order, colors)


@dataclass(frozen=True, eq=False)
class SeriesFlow(Flow):
    """du/dt = v(u) with series as states, for h = 1."""

    trees: Basis = field(default_factory=lambda: basis(1))
    color: int | None = None
    names: tuple[str, ...] = ()

    def velocity(self, t: Any, u: Array) -> Array:
        """h v(u)."""
        return self.trees.velocity(u, self.color)

    def jacobian(self, t: Any, u: Array) -> Array:
        """Derivative of the velocity, a nilpotent matrix."""
        return self.trees.jacobian(u, self.color)

    def resolvent(
        self, t: Any, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """v = w + h velocity(v): exact after as many rounds as trees have vertices."""
        v = w
        for _ in range(self.trees.order):
            v = w + h * self.trees.velocity(v, self.color)
        return v, (v,)

    def prox(self, t: Any, u: Array, h: float, memory: Memory) -> tuple[Array, Memory]:
        """The resolvent: the metric is flat."""
        return self.resolvent(t, u, h, memory)

    def parts(self) -> Mapping[str, Flow]:
        """One part for each color."""
        return {
            name: SeriesFlow(self.trees, color) for color, name in enumerate(self.names)
        }


RUNS_ON_SERIES = {"velocity", "resolvent", "prox", "parts", "jacobian"}


def scheme_coefficients(
    scheme: Scheme, trees: Basis, names: tuple[str, ...] = ()
) -> Array:
    """The series of one step of ``scheme``.

    Raises
    ------
    TypeError
        For a scheme that is no series of trees.
    """
    if isinstance(scheme, AverageVectorField):
        return averaged_coefficients(trees)
    if isinstance(scheme, Exact):
        return trees.flow(trees.velocity(trees.identity()), 1.0)
    hint = "; for momentum take Momentum(beta)" if "momentum" in scheme.needs else ""
    refusal = TypeError(
        f"`{scheme!r}` has no series of trees here: its steps are made of "
        f"{', '.join(scheme.needs)}{hint}."
    )
    # The memory of Douglas and Rachford is a function of the state where both parts are
    # smooth, so that an empty one makes the same step.
    several = scheme.multistep and not isinstance(scheme, DouglasRachford)
    if several or scheme.random or not set(scheme.needs) <= RUNS_ON_SERIES:
        raise refusal
    two = isinstance(scheme, (ForwardBackward, DouglasRachford))
    if two and set(names) != {"smooth", "prox"}:
        raise TypeError(
            f"`{scheme!r}` needs the parts of the energy: give a mapping "
            '{"smooth": .., "prox": ..}.'
        )
    if isinstance(scheme, Splitting) and not names:
        raise TypeError(
            f"`{scheme!r}` needs a flow with parts: a game, or a mapping of names to "
            "energies."
        )
    flow = SeriesFlow(trees, None, names)
    try:
        u = scheme.step(flow, 0.0, trees.identity(), 1.0, None, ()).u
    except AttributeError:
        raise refusal from None
    return np.asarray(u)


def averaged_coefficients(trees: Basis) -> Array:
    """The series of u' = u + h int_0^1 v(u + s (u' - u)) ds."""
    a = trees.identity()
    for i, tree in enumerate(trees.trees, 1):
        branches = [trees.index[branch] for branch in tree[1]]
        a[i] = np.prod(a[branches]) / (len(branches) + 1)
    return a


def modified_coefficients(trees: Basis, a: Array) -> Array:
    """The field b whose exact flow over the time 1 is the series a."""
    return solved(trees, {1: 1.0}, lambda flows: a)


def multistep_coefficients(
    trees: Basis, alpha: Mapping[int, float], beta: Mapping[int, float]
) -> Array:
    """The field b with sum_j alpha_j x(t + jh) = h sum_j beta_j v(x(t + jh)).

    The coefficient of x(t) is minus the sum of the others. This is the smooth solution
    of the multistep method, to which the others decay.
    """

    def right(flows: Callable[[float], Array]) -> Array:
        parts = (c * trees.velocity(flows(j)) for j, c in beta.items())
        return np.asarray(sum(parts))

    return solved(trees, alpha, right)


def solved(
    trees: Basis,
    alpha: Mapping[int, float],
    right: Callable[[Callable[[float], Array]], Array],
) -> Array:
    """b with sum_j alpha_j (flow of b over j - u) = right, tree by tree."""
    b = np.zeros(len(trees.trees) + 1)
    slope = sum(j * c for j, c in alpha.items())
    for n in range(1, trees.order + 1):
        level = trees.sizes == n
        found = right(lambda time: trees.flow(b, time))
        known = sum(c * trees.flow(b, float(j)) for j, c in alpha.items())
        b[level] = ((found - known) / slope)[level]
    return b
