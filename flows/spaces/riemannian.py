"""Gradient flows in a metric that depends on the point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from flows.arrays import array_like, namespace
from flows.linear import NewtonFailure, Operator
from flows.spaces.euclidean_flows import EuclideanFlow
from flows.spaces.jacobians import Krylov, accuracy_of_differences, chosen
from flows.spaces.metrics import Metric
from flows.spaces.pointwise import newton_solve, solve_equation

if TYPE_CHECKING:
    from flows.flow import Memory
    from flows.spaces.euclidean_flows import ImplicitStep

__all__ = ["RiemannianFlow"]

Array = Any
SWEEPS = 20


@dataclass(frozen=True, eq=False)
class Frozen(Metric):
    """The metric of every member at a fixed point of its own."""

    metric: Metric
    point: Array

    def apply(self, x: Array, v: Array) -> Array:
        return self.metric.apply(self.point, v)

    def solve(self, x: Array, g: Array) -> Array:
        return self.metric.solve(self.point, g)

    def dense(self, x: Array) -> Array:
        return self.metric.dense(self.point)


class Place(NamedTuple):
    """What a flow asks of its space."""

    metric: Any
    jacobian: Any


@dataclass(frozen=True, eq=False)
class RiemannianFlow(EuclideanFlow):
    """dx/dt = -M(x)^{-1} grad V(x).

    The Jacobian J w = -M^{-1} (Hess V w + (dM.w) velocity) has exact Hessians; the
    derivative of M is a central difference of step eps^(1/3) max(1, |x|), which leaves
    an error of about 1e-9 in float64 and slows Newton's method, never its solution.
    """

    @property
    def separable(self) -> bool:
        """False: a coordinate is pulled by all others through M."""
        return False

    @property
    def admissible(self) -> Any:
        """The metric's ``admissible``; a flow whose metric has none offers none."""
        return self.space.metric.admissible

    def jacobian(self, t: Any, u: Array) -> Any:
        """Derivative of the velocity: (.., n, n), or an operator for many unknowns."""
        structure = self.space.jacobian or chosen(self, u)
        if isinstance(structure, Krylov):
            own = structure.preconditioner
            inverse = None if own is None else lambda c, r: own(u, c, r)
            v = self.velocity(t, u)
            return Operator(
                lambda w: self._along(t, u, v, w),
                symmetric=False,
                preconditioner=inverse,
                accuracy=accuracy_of_differences(u),
            )
        n, xp = u.shape[-1], namespace(u)
        v, rows = self.velocity(t, u), array_like(np.eye(n), u)
        changes = [self._turned(u, v, rows[i] + 0.0 * u) for i in range(n)]
        columns = self.hessian(t, u) + xp.stack(changes, axis=-1)
        return -xp.linalg.solve(self.space.metric.dense(u), columns)

    def _along(self, t: Any, u: Array, velocity: Array, w: Array) -> Array:
        """J w."""
        change = self._turned(u, velocity, w)
        Hw = self.hessian_product(t, u, w)
        return -self.space.metric.solve(u, Hw + change)

    def _turned(self, x: Array, velocity: Array, w: Array) -> Array:
        """(dM.w) velocity at x, all (.., n)."""
        xp = namespace(x)
        apply = self.space.metric.apply
        size = xp.max(xp.abs(w), axis=-1, keepdims=True)
        size = xp.where(size > 0.0, size, xp.ones_like(size))
        reach = xp.clip(xp.max(xp.abs(x), axis=-1, keepdims=True), min=1.0)
        step = float(xp.finfo(x.dtype).eps) ** (1 / 3) * reach / size
        there, back = x + step * w, x - step * w
        return (apply(there, velocity) - apply(back, velocity)) / (2.0 * step)

    @property
    def resolvent(self) -> ImplicitStep:
        """v with v + h M(v)^{-1} grad V(t, v) = w, from the last one in ``memory``."""
        if self.kinked:
            raise TypeError(
                "the energy has a kink, and no implicit step of it is known in a "
                "metric that depends on x; use an explicit scheme"
            )
        return self._resolvent

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        start = memory[0] if memory else w
        try:
            v = self._newton(t, w, h, start)
        except NewtonFailure:
            v = self._newton(t, w, h, self._approach(t, w, h, start))
        return v, (v,)

    def _newton(self, t: Any, w: Array, h: Any, start: Array) -> Array:
        return solve_equation(
            lambda x: self.velocity(t, x),
            lambda x, r: newton_solve(self.jacobian(t, x), h, r),
            w,
            h,
            start,
        )[0]

    def _approach(self, t: Any, w: Array, h: Any, start: Array) -> Array:
        """A first guess by steps of constant metrics, each M at the guess before."""
        v = start
        for _ in range(SWEEPS):
            place = Place(Frozen(self.space.metric, v), self.space.jacobian)
            v, _ = EuclideanFlow(place, self.functional).move(t, w, h, v)
        return v

    @property
    def prox(self) -> NoReturn:
        """Refused: the squared distance is not known."""
        raise TypeError(
            "the distance of a metric that depends on x is not known, so there are no "
            "minimizing movements; ImplicitEuler() solves v + h M(v)^{-1} grad V = u"
        )
