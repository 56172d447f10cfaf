"""Densities on a grid with nonlinear diffusion: implicit steps by Newton's method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, device_of, dtype_name, namespace, to_numpy
from flows.linear import NewtonFailure, newton
from flows.spaces.finite_volume import (
    DRY,
    Pressure,
    Profile,
    pressures,
    two_point_flux,
)
from flows.spaces.grid_flows import GridFlow, as_state

if TYPE_CHECKING:
    from flows.flow import Memory
    from flows.spaces.cells import Pairs

__all__ = ["NonlinearGridFlow"]

Array = Any
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class NonlinearGridFlow(GridFlow):
    """d_t rho = div(rho grad(V + U'(rho)) + T grad rho - rho drift).

    The generalized flux of ``finite_volume``: U' + T log + V is constant where the
    flow rests, to rounding. Negative densities, which arise in the right-hand sides and
    stages of schemes, flow like positive ones: the flux is odd in the density.
    """

    @cached_property
    def groups(self) -> tuple[Pressure, ...]:
        """The internal terms by kind of pressure."""
        return pressures(self.internal)

    def velocity(self, t: float, u: Array) -> Array:
        """Inflow minus outflow of every cell."""
        return self.cells.divergence(self._fluxes(t, u, False)[0], u)

    def _fluxes(
        self, t: float, u: Array, derivatives: bool
    ) -> tuple[list[Array], Pairs, float]:
        """Fluxes of each axis, their derivatives, and rounding in units of eps."""
        xp = namespace(u)
        zero = xp.zeros_like(u)
        if not bool(xp.any(u < 0.0)):
            return self._positive_fluxes(t, u, derivatives)
        J, pairs, noise = self._positive_fluxes(t, xp.maximum(u, zero), derivatives)
        minus, others, more = self._positive_fluxes(
            t, xp.maximum(-u, zero), derivatives
        )
        J = [x - y for x, y in zip(J, minus, strict=True)]
        merged = []
        for axis, (pair, other) in enumerate(zip(pairs, others, strict=True)):
            signs = self.cells.sides(u < 0.0, axis)
            merged.append(
                tuple(
                    np.where(below, y, x)
                    for below, x, y in zip(signs, pair, other, strict=True)
                )
            )
        return J, merged, noise + more  # type: ignore[return-value]

    def _jumps_like(self, t: float, u: Array) -> list[Array]:
        if isinstance(u, np.ndarray) and u.dtype == np.float64:
            return self.jumps(t)
        key = (dtype_name(u), device_of(u), t if self.moving else None)
        found: list[Array] = self.remember(
            "dV like", key, lambda: [array_like(x, u) for x in self.jumps(t)]
        )
        return found

    def _positive_fluxes(
        self, t: float, u: Array, derivatives: bool
    ) -> tuple[list[Array], Pairs, float]:
        xp, cells = namespace(u), self.cells
        p = xp.maximum(u, xp.full_like(u, DRY[dtype_name(u)]))
        log = xp.log(p)
        with np.errstate(all="ignore"):
            profiles = [part.profile(p, log) for part in self.groups]
        fluxes: list[Array] = []
        pairs: Pairs = []
        noise = 0.0
        for axis, (jump, h) in enumerate(
            zip(self._jumps_like(t, u), self.space.spacing, strict=True)
        ):
            faces = [
                tuple(
                    Profile(*each)
                    for each in zip(*(cells.sides(x, axis) for x in one), strict=True)
                )
                for one in profiles
            ]
            face = two_point_flux(
                self.groups,
                cells.sides(u, axis),
                faces,
                jump,
                self.temperature,
                derivatives,
            )
            fluxes.append(face.flux / h**2)
            if derivatives:
                pairs.append((face.by_a / h**2, face.by_b / h**2))
                noise += float(np.sum(face.noise)) / h**2
        return fluxes, pairs, noise

    def jacobian(self, t: float, u: Array) -> Any:
        """Derivative of the velocity: tridiagonal (cyclic) on a line, else sparse."""
        x = to_numpy(u).astype(np.float64)
        return self.cells.matrix(self._fluxes(t, x, True)[1], -1.0, 0.0)

    def stable_step(self, t: float, u: Array) -> float:
        """1 / (largest outflow rate of a cell of the linearized flow) near ``u``.

        For convex pressures dry cells count as a hundredth of the largest density: the
        derivative of the flux into them may be infinite, and limits no step. Instead
        no cell may lose more than half.
        """
        x = np.abs(to_numpy(u).astype(np.float64))
        cells = self.cells
        fluxes, pairs, _ = self._fluxes(t, x, True)
        largest = 0.0
        if all(math.isfinite(part.cap) for part in self.groups):
            leaving = [(np.maximum(J, 0.0), np.minimum(J, 0.0)) for J in fluxes]
            out = cells.outflow(leaving)
            largest = 2.0 * float((out[x > 0.0] / x[x > 0.0]).max(initial=0.0))
            pairs = self._fluxes(t, np.maximum(x, 1e-2 * x.max()), True)[1]
        largest = max(largest, float(cells.outflow(pairs).max()))
        return 1.0 / largest if largest > 0.0 else math.inf

    def resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """v with v - h velocity(t, v) = w, by Newton's method in float64 on the CPU.

        For w >= 0, v >= 0, and no cell loses more than nine tenths in one iteration.
        Newton starts from the last state in ``memory``; where it does not converge, as
        from compact support with a long step, from a density that is wet everywhere.

        Raises
        ------
        NewtonFailure
            Without convergence to rounding, with the history of the residuals in L1.
        """
        right = to_numpy(w).astype(np.float64, copy=False)
        start = to_numpy(memory[0] if memory else w).astype(np.float64)
        v = self._solve(t, right, h, start)
        result = as_state(v, w)
        return result, (result,)

    def _solve(
        self, t: float, w: np.ndarray, h: float, start: np.ndarray
    ) -> np.ndarray:
        size = float(np.abs(w).sum())
        if size == 0.0:
            return np.zeros_like(w)
        mean = np.full_like(w, size / w.size)
        guesses = (start, np.maximum(start, mean), mean)
        for guess, most in zip(guesses, (20, 60, 100), strict=True):
            try:
                return self._newton(t, w, h, guess, size, most)
            except NewtonFailure as failure:
                last = failure
        raise last

    def _newton(
        self,
        t: float,
        w: np.ndarray,
        h: float,
        v: np.ndarray,
        size: float,
        most: int,
    ) -> np.ndarray:
        cells, positive = self.cells, bool(w.min() >= 0.0)
        if positive:
            v = np.maximum(v, 0.0)
        pairs: Pairs = []
        rounding = 0.0

        def residual(v: np.ndarray) -> np.ndarray:
            nonlocal pairs, rounding
            fluxes, pairs, noise = self._fluxes(t, v, True)
            rounding = EPS * (size + h * noise)
            return np.asarray(v - w - h * cells.divergence(fluxes, v))

        def solve(v: np.ndarray, rest: np.ndarray) -> np.ndarray:
            step = cells.factor(pairs, h).solve(rest.ravel()).reshape(v.shape)
            if positive:
                step = v - np.maximum(v - step, 0.1 * v)
            return np.asarray(step)

        def norm(rest: np.ndarray) -> float:
            return float(np.abs(rest).sum())

        residual(v)
        while True:
            expected = rounding
            found = newton(
                residual,
                solve,
                v,
                norm=norm,
                tol=0.5 * rounding,
                floor=100.0 * rounding,
                max_iterations=most,
            )
            v = found.x
            rest = residual(v)
            # The terms of the residual, and its rounding, may have shrunk on the way.
            if not rounding < 0.5 * expected:
                break
        left, lost = norm(rest), abs(float(rest.sum()))
        if not (left <= 200.0 * rounding and lost <= 1e-10 * size):
            raise NewtonFailure(
                f"Newton's method stalled at the residual {left:.3g} with the mass off "
                f"by {lost:.3g}; rounding is {rounding:.3g}",
                found.residuals,
            )
        return v
