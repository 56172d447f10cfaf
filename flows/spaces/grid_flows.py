"""Wasserstein gradient flows of densities on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import (
    array_like,
    create,
    detach,
    device_of,
    dtype_name,
    first_nonfinite,
    namespace,
    to_numpy,
)
from flows.energies import Potential
from flows.flow import Flow, Memory
from flows.spaces.cells import Cells, Line, Pairs, Refined, Solver
from flows.spaces.cloud import drift_at
from flows.spaces.finite_volume import DRY, linear_rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy, Internal
    from flows.spaces.grid import Grid

__all__ = ["GridFlow", "LinearGridFlow", "as_state"]

Array = Any
KEPT = 4
"""Factorizations, potentials and rates that a flow keeps of each kind."""


@dataclass(frozen=True, eq=False)
class GridFlow(Flow):
    """What the flows of densities on a grid share; `Grid.flow` makes them.

    Time-dependent potentials are evaluated again at every new time.
    """

    # Without `field()` the class attribute of Flow would be a default.
    space: Grid = field()
    functional: Energy
    temperature: float = field(repr=False)
    internal: tuple[Internal, ...] = field(repr=False)
    drift: Callable[[Array], Array] | None = None
    is_gradient: bool = field(init=False, default=True, repr=False)
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_gradient", self.drift is None)
        # Wrong functions are refused when the flow is made.
        if not self.moving:
            self.potential(0.0)
        self.pushes()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @cached_property
    def cells(self) -> Cells:
        """Shape and wrap of the grid."""
        periodic = tuple(name == "periodic" for name in self.space.boundary)
        return Cells(self.space.shape, periodic)

    @cached_property
    def moving(self) -> bool:
        """Whether the potential depends on time."""
        return self.functional.depends_on_time

    def remember(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        """make(), or what it gave for one of the last keys of this kind."""
        # The tuple is replaced as a whole, so that threads may share a flow.
        entries = self._cache.get(kind, ())
        for known, value in entries:
            if known == key:
                return value
        value = make()
        self._cache[kind] = ((key, value), *entries[: KEPT - 1])
        return value

    def potential(self, t: float) -> np.ndarray:
        """V at the cell centers, NumPy float64.

        Raises
        ------
        ValueError
            Where V is not finite.
        """
        key = t if self.moving else None
        found: np.ndarray = self.remember("V", key, lambda: self._potential(t))
        return found

    def _potential(self, t: float) -> np.ndarray:
        V = np.zeros(self.space.shape)
        x = self.space.points(V)
        for term in self.functional.terms:
            if isinstance(term, Potential):
                with np.errstate(all="ignore"):
                    V = V + to_numpy(term.value_at(x, t))
        count, index = first_nonfinite(V)
        if count:
            raise ValueError(
                f"The potential has {count} non-finite value(s) at the cell centers, "
                f"the first at x = {x[index].tolist()}; choose a box where V is finite."
            )
        return V

    def _potential_like(self, t: float, u: Array) -> Array:
        """V in the library, dtype and device of ``u``."""
        key = (dtype_name(u), device_of(u), t if self.moving else None)
        return self.remember("V like", key, lambda: array_like(self.potential(t), u))

    def pushes(self) -> list[np.ndarray] | None:
        """Normal component of the drift on the faces of each axis.

        Raises
        ------
        TypeError, ValueError
            For a drift of the wrong shape, or not finite.
        """
        if self.drift is None:
            return None
        drift = self.drift
        found: list[np.ndarray] = self.remember(
            "drift", None, lambda: self._pushes(drift)
        )
        return found

    def _pushes(self, drift: Callable[[Array], Array]) -> list[np.ndarray]:
        found = []
        centers = self.space.points(np.zeros(1))
        for axis, h in enumerate(self.space.spacing):
            x = self.cells.sides(centers, axis)[0].copy()
            x[..., axis] += 0.5 * h
            push = to_numpy(drift_at(drift, create(x, self.space.device)))
            count, index = first_nonfinite(push)
            if count:
                raise ValueError(
                    f"`drift` has {count} non-finite value(s) on the faces of the "
                    f"grid, the first at x = {x[index[:-1]].tolist()}."
                )
            found.append(push[..., axis].astype(np.float64))
        return found

    def jumps(self, t: float) -> list[np.ndarray]:
        """V(right) - V(left) - h drift on the faces of each axis."""
        key = t if self.moving else None
        found: list[np.ndarray] = self.remember("dV", key, lambda: self._jumps(t))
        return found

    def _jumps(self, t: float) -> list[np.ndarray]:
        V, pushes = self.potential(t), self.pushes()
        jumps = []
        for axis, h in enumerate(self.space.spacing):
            left, right = self.cells.sides(V, axis)
            jump = right - left
            jumps.append(jump if pushes is None else jump - h * pushes[axis])
        return jumps

    def energy(self, t: float, u: Array) -> float:
        """Sum of V u + T u log u + U(u) over the cells times their volume.

        Infinite for a negative density, unless there is nothing but a potential.
        """
        u = detach(u)
        xp = namespace(u)
        rest = self._density_terms
        if rest and float(xp.min(u)) < 0.0:
            return math.inf
        with np.errstate(all="ignore"):
            total = self._potential_like(t, u) * u
            for term in rest:
                total = total + _limit(term.value_at, u)
        return float(xp.sum(total, dtype=xp.float64)) * self.space.volume

    def variation(self, t: float, u: Array) -> Array:
        """V + T (log u + 1) + U'(u) at the cells; may be infinite where u = 0."""
        total = self._potential_like(t, u)
        with np.errstate(all="ignore"):
            for term in self._density_terms:
                total = total + term.first_at(u)
        return total

    @property
    def _density_terms(self) -> list[Any]:
        return [x for x in self.functional.terms if not isinstance(x, Potential)]

    def default(self) -> tuple[str, None]:
        """TR-BDF2 with adaptive steps."""
        return "TRBDF2", None


def _limit(function: Callable[[Array], Array], u: Array) -> Array:
    """function(u), with the limit from inside at the ends, as in 0 log 0."""
    xp = namespace(u)
    values = function(u)
    lost = xp.isnan(values)
    if not bool(xp.any(lost)):
        return values
    dry = xp.full_like(u, DRY[dtype_name(u)])
    inside = xp.maximum(u * (1.0 - 2.0 * xp.finfo(u.dtype).eps), dry)
    return xp.where(lost, function(inside), values)


def as_state(v: np.ndarray, w: Array) -> Array:
    """The float64 solution v in the library, dtype and device of ``w``."""
    same = isinstance(w, np.ndarray) and w.dtype == np.float64
    return v if same else array_like(v, w)


@dataclass(frozen=True, eq=False)
class LinearGridFlow(GridFlow):
    """Fokker-Planck, d_t rho = div(T grad rho + rho grad V - rho drift), by rates.

    The flux of Scharfetter and Gummel, upwind transport for T = 0. With T > 0 and no
    drift exp(-V/T) at the centers is stationary to rounding for every V.
    """

    def rates(self, t: float) -> Pairs:
        """Rates (right, left) >= 0 on the faces of each axis: J = right a - left b."""
        key = t if self.moving else None
        found: Pairs = self.remember("rates", key, lambda: self._rates(t))
        return found

    def _rates(self, t: float) -> Pairs:
        found = []
        for jump, h in zip(self.jumps(t), self.space.spacing, strict=True):
            right, left = linear_rates(jump, self.temperature)
            found.append((right / h**2, left / h**2))
        return found

    def _rates_like(self, t: float, u: Array) -> Any:
        if isinstance(u, np.ndarray) and u.dtype == np.float64:
            return self.rates(t)
        key = (dtype_name(u), device_of(u), t if self.moving else None)
        return self.remember(
            "rates like",
            key,
            lambda: [[array_like(r, u) for r in pair] for pair in self.rates(t)],
        )

    def _pairs(self, t: float) -> Pairs:
        return [(right, -left) for right, left in self.rates(t)]

    def velocity(self, t: float, u: Array) -> Array:
        """Inflow minus outflow of every cell."""
        cells, fluxes = self.cells, []
        for axis, (right, left) in enumerate(self._rates_like(t, u)):
            a, b = cells.sides(u, axis)
            J = right * a
            J -= left * b
            fluxes.append(J)
        return cells.divergence(fluxes, u)

    def resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """(I - h L)^{-1} w: positive for w >= 0, mass and Gibbs state to rounding.

        In float64 on the CPU, whatever ``w`` is. The last factorizations are kept.
        """
        key = (h, t if self.moving else None)
        solver: Solver = self.remember("factor", key, lambda: self._solver(t, h))
        right = to_numpy(w).astype(np.float64, copy=False)
        v = as_state(solver.solve(right.ravel()).reshape(right.shape), w)
        return v, (v,)

    def _solver(self, t: float, h: float) -> Solver:
        if self.cells.periodic == (False,) and self.space.shape[0] > 2:
            key = t if self.moving else None
            line: Line = self.remember("line", key, lambda: Line(*self.rates(t)[0]))
            return line.factor(h)
        shape = self.space.shape

        def residual(v: np.ndarray, w: np.ndarray) -> np.ndarray:
            rate = self.velocity(t, v.reshape(shape))
            rest: np.ndarray = w - v + h * rate.ravel()
            return rest

        return Refined(self.cells.factor(self._pairs(t), h), residual)

    def jacobian(self, t: float, u: Array) -> Any:
        """L: tridiagonal (cyclic) on a line, a sparse csc array in the plane."""
        return self.cells.matrix(self._pairs(t), -1.0, 0.0)

    @property
    def generator(self) -> Callable[[], Any]:
        """``generator()``: L of du/dt = L u, sparse csr; cells in C order.

        Raises
        ------
        TypeError
            When V depends on time.
        """
        if self.moving:
            raise TypeError(
                "The potential depends on time, so there is no one generator; use "
                "`jacobian(t, u)`."
            )
        return self._generator

    def _generator(self) -> Any:
        return self.cells.sparse(self._pairs(0.0), -1.0, 0.0).tocsr()

    def stable_step(self, t: float, u: Array) -> float:
        """1 / (largest outflow rate of a cell): at most, and near, 2/|eigenvalue|.

        Gershgorin's discs lie in one about -rate through 0, so this is safe with a
        drift too.
        """
        largest = float(self.cells.outflow(self._pairs(t)).max())
        return 1.0 / largest if largest > 0.0 else math.inf

    def gibbs(self, t: float = 0.0, mass: float = 1.0) -> Array:
        """The stationary state, exp(-V/T) at the centers with the given mass.

        Raises
        ------
        TypeError
            Without entropy, and with a drift.
        """
        if self.temperature == 0.0 or self.drift is not None:
            raise TypeError("A Gibbs state needs a positive temperature and no drift.")
        V = self.potential(t)
        rho = np.exp(-(V - V.min()) / self.temperature)
        return self.space.create(rho * (mass / (rho.sum() * self.space.volume)))
