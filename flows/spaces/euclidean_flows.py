"""Flows of vectors: potentials and drifts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import (
    array_like,
    is_torch,
    namespace,
    numbers,
    rms,
)
from flows.flow import Flow, Memory
from flows.spaces.cloud import drift_at
from flows.spaces.compiled_functions import is_function
from flows.spaces.compiled_steps import FEWEST, compiled_steps, obstacle
from flows.spaces.jacobians import Krylov, chosen
from flows.spaces.kinks import advise, kink_prox
from flows.spaces.pointwise import Functions, minimize_move, pointwise_prox
from flows.spaces.single import MOST_COORDINATES, single_move
from flows.symbolic import Constant, QuadraticField, SeparableField

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.spaces.jacobians import Structure
    from flows.spaces.pointwise import Box

__all__ = ["DriftFlow", "EuclideanFlow", "VectorFlow"]

Array = Any
ImplicitStep = Callable[[Any, Array, Any, Memory], tuple[Array, Memory]]


def total(functional: Energy, name: str, t: Any, *arguments: Array) -> Array:
    """Sum over the terms of ``value_at``, ``gradient_at`` or another method."""
    first, *rest = functional.terms
    result = getattr(first, name)(*arguments, t)
    for term in rest:
        result = result + getattr(term, name)(*arguments, t)
    return result


def is_separable(function: Any) -> bool:
    """Whether a function of a point is a sum over its coordinates."""
    if isinstance(function, QuadraticField):
        return np.ndim(function.A) < 2
    return isinstance(function, (SeparableField, Constant))


def coordinatewise(function: Any, order: int, x: Array, t: Any) -> Array:
    """Derivative of ``order`` of each coordinate's part of a separable function."""
    xp = namespace(x)
    match function:
        case SeparableField():
            return function.each(order, x, t)
        case QuadraticField() if order == 2:
            return array_like(function.A, x) + xp.zeros_like(x)
        case QuadraticField() if order == 0:
            z, b = x - array_like(function.center, x), array_like(function.b, x)
            return 0.5 * z * (function.gradient(x) + b) - b * x
        case QuadraticField():
            return function.gradient(x)
    return xp.zeros_like(x)


@dataclass(frozen=True, eq=False)
class VectorFlow(Flow):
    """What all flows of vectors share: energy, inner product and error norm.

    Times and steps are numbers, or (b, 1) for a batch (b, n).
    """

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    functional: Energy

    def energy(self, t: Any, u: Array) -> Any:
        """V: one number, or (b,) for b points."""
        return numbers(total(self.functional, "value_at", t, u))

    def inner(self, u: Array, a: Array, b: Array) -> Any:
        """a.M(u) b: one number, or (b,) for b points."""
        metric = self.space.metric
        Mb = b if metric is None else metric.apply(u, b)
        return numbers(namespace(a).sum(a * Mb, axis=-1))

    def advice(self, problem: str) -> str | None:
        """The schemes for "kink", a path along a kink of V."""
        return advise(self) if problem == "kink" else None

    def norm(self, e: Array) -> Any:
        """Root mean square: one number, or (b,) for b points."""
        if e.ndim == 1:
            return rms(e)
        xp = namespace(e)
        return xp.sqrt(xp.mean(e * e, axis=-1))


@dataclass(frozen=True, eq=False)
class EuclideanFlow(VectorFlow):
    """dx/dt = -M^{-1} grad V(x), V a sum of potentials, M a constant metric."""

    def velocity(self, t: Any, u: Array) -> Array:
        """-M^{-1} grad V."""
        g = total(self.functional, "gradient_at", t, u)
        metric = self.space.metric
        return -g if metric is None else -metric.solve(u, g)

    def hessian(self, t: Any, u: Array) -> Array:
        """Hess V, (.., n, n)."""
        return total(self.functional, "hessian_at", t, u)

    def hessian_product(self, t: Any, u: Array, v: Array) -> Array:
        """Hess V times v, without the matrix."""
        return self.hessian_products(t, u)(v)

    def hessian_products(
        self, t: Any, u: Array, slope: Array | None = None
    ) -> Callable[[Array], Array]:
        """The map v -> Hess V v at u; ``slope`` = grad V(u) makes differences cheap."""
        terms: Any = self.functional.terms
        parts: list[Callable[[Array], Array]] = []
        for term in terms:
            if slope is not None and len(terms) > 1:
                slope = term.gradient_at(u, t)
            parts.append(term.hessian_products_at(u, t, slope))
        if len(parts) == 1:
            return parts[0]
        return lambda v: sum((part(v) for part in parts[1:]), start=parts[0](v))

    @cached_property
    def separable(self) -> bool:
        """Whether V and the metric are sums over the coordinates, as recognized."""
        metric = self.space.metric
        if metric is not None and metric.diagonal(np.ones(1)) is None:
            return False
        return all(is_separable(term.function) for term in self.functional.terms)

    def coordinatewise(self, order: int, t: Any, u: Array) -> Array:
        """Derivatives by each coordinate of a separable V."""
        parts = [
            term.scale * coordinatewise(term.function, order, u, t)
            for term in self.functional.terms
        ]
        return sum(parts[1:], start=parts[0])

    def structure(self, u: Array) -> Structure:
        """How Hessians at states like ``u`` are held."""
        found: Structure = self.space.jacobian or chosen(self, u)
        return found

    def jacobian(self, t: Any, u: Array) -> Any:
        """-M^{-1} Hess V, in the form that ``Euclidean(jacobian=...)`` says."""
        return self.structure(u).jacobian(self, t, u)

    def linearizable(self, u: Array) -> bool:
        """Whether a scheme may solve implicit steps with ``jacobian`` by itself."""
        smooth = not self.kinked and type(self).velocity is EuclideanFlow.velocity
        return smooth and not isinstance(self.structure(u), Krylov)

    @cached_property
    def kinked(self) -> bool:
        """Whether implicit steps need a proximal map of their own."""
        terms = self.functional.terms
        return any(t.prox is not None or not t.function.smooth for t in terms)

    @property
    def resolvent(self) -> ImplicitStep:
        """v with v + h M^{-1} grad V(t, v) = w, from the last state in ``memory``.

        With kinks it is ``prox``, which solves the inclusion; TypeError where that is
        not known.
        """
        return self._kink_prox() if self.kinked else self._resolvent

    @property
    def prox(self) -> ImplicitStep:
        """argmin_v V(t, v) + |u - v|^2 / 2h; TypeError where no method is known.

        Of a V that is not convex it is a local minimum, below the value at u.
        """
        return self._kink_prox() if self.kinked else self._smooth_prox

    def _kink_prox(self) -> ImplicitStep:
        metric = self.space.metric
        if metric is None:
            return kink_prox(self.functional)
        weights = metric.diagonal(np.ones(1))
        if weights is None or len(weights) > 1:
            raise TypeError(
                "the proximal map of a kink is known for metric=None or a number, not "
                f"for metric={metric!r}; use an explicit scheme"
            )
        return Rescaled(kink_prox(self.functional), float(weights[0]))

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        return self.move(t, w, h, memory[0] if memory else w)

    def _smooth_prox(
        self, t: Any, u: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        return self.move(t, u, h, u, minimum=True)

    def move(
        self,
        t: Any,
        u: Array,
        h: Any,
        start: Array,
        minimum: bool = False,
        box: Box | None = None,
    ) -> tuple[Array, Memory]:
        """argmin_v V(v) + |u - v|^2 / 2h within ``box``, by Newton's method."""
        if box is None and self.is_single(u):
            v = single_move(self.functional, t, u, float(h), start, minimum)
            if v is not None:
                return v, (v,)
        if self.space.jacobian is None and self.separable:
            v = self._move_each(t, u, h, start, minimum, box)
            return v, (v,)
        structure = self.structure(u)
        v, _ = minimize_move(
            self._functions(t, h, structure, u.ndim == 2 and self.divisible),
            u,
            h,
            start,
            minimum,
            metric=self.space.metric,
            box=box,
        )
        return v, (v,)

    def is_single(self, u: Array) -> bool:
        """Whether a state is one point for which numbers are faster than arrays."""
        few = u.ndim == 1 and u.shape[0] <= MOST_COORDINATES
        if not few or is_torch(u) or u.dtype != np.float64:
            return False
        return self.space.metric is None and self.space.jacobian is None

    def _functions(
        self, t: Any, h: Any, structure: Structure, divisible: bool
    ) -> Functions:
        """What Newton's method needs of V; of a batch also for some of its points."""

        def members(rows: np.ndarray) -> Functions:
            own = [a[rows] if getattr(a, "ndim", 0) else a for a in (t, h)]
            return self._functions(own[0], own[1], structure, False)

        return Functions(
            lambda x: total(self.functional, "value_at", t, x),
            lambda x: total(self.functional, "gradient_at", t, x),
            lambda x, slope: structure.system(self, t, x, h, slope),
            members if divisible else None,
        )

    @cached_property
    def divisible(self) -> bool:
        """Whether V is the same function for all points of a batch."""
        fields = (term.function for term in self.functional.terms)
        parameters = (field.parameters or {} for field in fields)
        return not any(np.ndim(v) for each in parameters for v in each.values())

    def _move_each(
        self, t: Any, u: Array, h: Any, start: Array, minimum: bool, box: Box | None
    ) -> Array:
        """The same for a separable V: every coordinate is a problem of its own."""
        if self.space.metric is not None:
            h = h / self.space.metric.diagonal(u)
        column = h[..., None] if getattr(h, "ndim", 0) else h

        def part(order: int) -> Callable[[Array], Array]:
            return lambda x: self.coordinatewise(order, t, x[..., 0])

        value, slope, bend = part(0), part(1), part(2)
        v, _ = pointwise_prox(
            value,
            lambda x: slope(x)[..., None],
            lambda x: bend(x)[..., None, None],
            u[..., None],
            column,
            start[..., None],
            minimum,
            None if box is None else (box[0][..., None], box[1][..., None]),
        )
        return v[..., 0]

    def advance(
        self, scheme: Any, dt: Any, t0: float, t1: float, u: Array, rng: Any
    ) -> tuple[Array, Mapping[str, int]] | None:
        """Compiled steps, as ``compiled`` of the space says; else None.

        Raises
        ------
        TypeError
            Where there are none, and the space asks for them.
        """
        wanted = self.space.compiled
        # numba keeps what a function found outside it, which the user has to know.
        few = u.ndim < 2 or len(u) < FEWEST or is_function(self.functional)
        if wanted is False or (wanted is None and few):
            return None
        V, structure = self.functional, self.space.jacobian
        why = self._not_compiled or obstacle(V, scheme, dt, t0, u, structure)
        if why is None:
            return compiled_steps(V, scheme, dt, t0, t1, u, structure)
        if wanted:
            raise TypeError(
                f"Euclidean(compiled=True) asks for compiled steps: {why}; "
                "compiled=None takes them where there are any."
            )
        return None

    @property
    def _not_compiled(self) -> str | None:
        """Why this kind of flow has no compiled steps."""
        plain = type(self).velocity is EuclideanFlow.velocity
        if not plain or self.space.metric is not None or self.space.bounds is not None:
            return "they have no metric, bounds or non-smooth terms"
        return None

    def default(self) -> tuple[str, None]:
        """Adaptive TR-BDF2: stiff potentials are the rule. Else Dormand-Prince.

        ``Rosenbrock`` where the space asks for compiled steps.
        """
        if self.space.compiled:
            return "Rosenbrock", None
        try:
            self.resolvent  # noqa: B018
        except TypeError:
            return "DormandPrince", None
        return "TRBDF2", None


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A proximal map in the metric ``weight`` times the plain one."""

    prox: ImplicitStep
    weight: float

    def __call__(
        self, t: Any, u: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        return self.prox(t, u, h / self.weight, memory)


@dataclass(frozen=True, eq=False)
class DriftFlow(VectorFlow):
    """dx/dt = -grad V(x) + drift(x): no gradient flow unless the drift is one."""

    drift: Callable[[Array], Array] = field(repr=False)
    is_gradient = False

    def velocity(self, t: Any, u: Array) -> Array:
        """-M^{-1} grad V + drift."""
        g = total(self.functional, "gradient_at", t, u)
        metric = self.space.metric
        return drift_at(self.drift, u) - (g if metric is None else metric.solve(u, g))

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None
