"""Flows of vectors whose energy has kinks or bounds: dx/dt in -(grad S + dR)(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows import nonsmooth
from flows.arrays import namespace, numbers
from flows.energies import Potential, Sum
from flows.nonsmooth import ProxField
from flows.spaces.base import refuse
from flows.spaces.composite_steps import composite_step
from flows.spaces.euclidean_flows import EuclideanFlow, VectorFlow
from flows.spaces.kinks import is_rough, kink_prox, split_at, split_terms
from flows.symbolic import Constant, QuadraticField

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.energies import Energy
    from flows.flow import Flow, Memory
    from flows.spaces.kinks import Split

__all__ = ["CompositeFlow", "composite_flow"]

Array = Any
NOTHING = nonsmooth.l1(0.0).function


def composite_flow(space: Any, energy: Energy) -> CompositeFlow | None:
    """The flow of potentials of which some have kinks or bounds.

    None for smooth ones, and for typed kinks in a metric that mixes coordinates, where
    explicit schemes take the formula as it is.

    Raises
    ------
    TypeError
        For functions of matrices, and with a metric that has no proximal steps.
    """
    if not any(is_rough(term) for term in energy.terms):
        return None
    for term in energy.terms:
        field = term.function
        if isinstance(field, ProxField) and field.axes == 2:
            raise refuse(term, space, "its points are matrices, use Matrices(n, k)")
    metric = space.metric
    if metric is None or is_number(metric):
        return CompositeFlow(space, energy)
    if metric.diagonal(np.ones(1)) is not None and all(map(each_alone, energy.terms)):
        return CompositeFlow(space, energy)
    for term in energy.terms:
        if isinstance(term.function, ProxField):
            raise refuse(
                term,
                space,
                "proximal steps in a metric other than a number need a diagonal one "
                "and an energy that is a sum over the coordinates",
            )
    return None


def is_number(metric: Any) -> bool:
    """Whether a metric is a multiple of the plain one."""
    weights = metric.diagonal(np.ones(1)) if metric.constant else None
    return weights is not None and len(weights) == 1


def each_alone(term: Any) -> bool:
    """Whether a potential is a sum over coordinates that proximal steps can use."""
    function = term.function
    if isinstance(function, ProxField):
        return bool(function.separable)
    return isinstance(function, Constant) or (
        isinstance(function, QuadraticField) and np.ndim(function.A) < 2
    )


@dataclass(frozen=True, eq=False)
class CompositeFlow(EuclideanFlow):
    """dx/dt = -(shortest element of grad S(x) + dR(x)), S smooth, R with kinks.

    The velocity is the right derivative of the path; along the flow of a convex V the
    energy falls at the rate |velocity|^2 almost everywhere [1]_.

    References
    ----------
    .. [1] H. Brezis, Operateurs maximaux monotones, North-Holland 1973,
       doi:10.1016/S0304-0208(08)72394-9.
    """

    def velocity(self, t: Any, u: Array) -> Array:
        """Minus the shortest subgradient."""
        split = split_terms(self.functional.terms, u.shape[-1])
        if split is None:
            # A kink that is not recognized: whatever its formula says there.
            return super().velocity(t, u)
        slope = namespace(u).zeros_like(u)
        for term in split.smooth:
            slope = slope + term.gradient_at(u, t)
        least = split.rough.at(t).least(u, slope)
        metric = self.space.metric
        return -least if metric is None else -metric.solve(u, least)

    def _kink_prox(self) -> Any:
        prox, metric = kink_prox(self.functional), self.space.metric
        return prox if metric is None else InMetric(prox, metric)

    @property
    def parts(self) -> Callable[[], Mapping[str, Flow]]:
        """``parts()``: the flows of S, "smooth", and of R, "prox".

        TypeError where they are not known.
        """
        kink_prox(self.functional)
        return self._parts

    def _parts(self) -> Mapping[str, Flow]:
        terms = self.functional.terms
        if any(mixed(term) for term in terms):
            even: Flow = SmoothPart(self.space, self.functional)
        else:
            smooth = tuple(term for term in terms if not is_rough(term))
            whole = smooth[0] if len(smooth) == 1 else Sum(smooth)
            even = self.space.flow(whole if smooth else Potential(0.0))
        return {"smooth": even, "prox": RoughPart(self.space, self.functional)}

    @property
    def stable_step(self) -> Callable[[Any, Array], float]:
        """That of the smooth part, where it is known."""
        try:
            smooth = self.parts()["smooth"]
        except TypeError as error:
            raise AttributeError(str(error)) from error
        bound: Callable[[Any, Array], float] = smooth.stable_step
        return bound

    @property
    def exact(self) -> Callable[..., Array]:
        """The flow map, where proximal steps are the flow, as for a norm alone."""
        if any(not mixed(t) and not is_rough(t) for t in self.functional.terms):
            raise AttributeError("The flow map of a sum is not known.")
        if not any(
            split is not None and is_exact(split) for split in splits(self.functional)
        ):
            raise AttributeError("The flow map is not known.")
        return self._exact

    def _exact(self, t: Any, u: Array, h: Any, rng: Any = None) -> Array:
        split = split_at(self.functional, u)
        if not is_exact(split):
            raise TypeError(
                f"The flow map of {self.functional!r} is not known in R^{u.shape[-1]}."
            )
        return self._kink_prox()(t, u, h, ())[0]


@dataclass(frozen=True, eq=False)
class InMetric:
    """A proximal map in a diagonal metric: every coordinate has its own step."""

    prox: Callable[..., tuple[Array, Memory]]
    metric: Any

    def __call__(
        self, t: Any, u: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        weights = self.metric.diagonal(u)
        step = h / (float(weights[0]) if len(weights) == 1 else weights)
        return self.prox(t, u, step, memory)


def mixed(term: Any) -> bool:
    """Whether a potential is typed in one formula with its kinks."""
    own = isinstance(term.function, ProxField) or term.prox is not None
    return not own and not term.function.smooth


def splits(functional: Energy) -> list[Split | None]:
    """The splits in the dimension of the terms, or in a few where they fit all."""
    named = {term.function.dimension for term in functional.terms} - {None}
    return [split_terms(functional.terms, d) for d in named or (1, 2, 3)]


def is_exact(split: Split) -> bool:
    """Whether a proximal step of length h is the flow map at time h."""
    if split.smooth or split.rough.timed:
        return False
    return bool(split.rough.at(0.0).exact)


@dataclass(frozen=True, eq=False)
class RoughPart(VectorFlow):
    """dx/dt in -dR(x), R the rough part of an energy."""

    def velocity(self, t: Any, u: Array) -> Array:
        """Minus the shortest subgradient."""
        field = split_at(self.functional, u).rough.at(t)
        slope = field.least(u, namespace(u).zeros_like(u))
        metric = self.space.metric
        return -slope if metric is None else -metric.solve(u, slope)

    def energy(self, t: Any, u: Array) -> Any:
        """R: one number, or (b,) for b points."""
        return numbers(split_at(self.functional, u).rough.at(t).value(u))

    def prox(self, t: Any, u: Array, h: Any, memory: Memory) -> tuple[Array, Memory]:
        """argmin_v R(v) + |u - v|^2 / 2h."""
        return self._exact(t, u, h), ()

    def resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        """``prox``, which solves the inclusion."""
        return self._exact(t, w, h), ()

    @property
    def exact(self) -> Callable[..., Array]:
        """The flow map, where proximal steps are the flow."""
        known = [split for split in splits(self.functional) if split is not None]
        if not any(s.rough.timed or s.rough.at(0.0).exact for s in known):
            raise AttributeError("The flow map is not known.")
        return self._exact

    def _exact(self, t: Any, u: Array, h: Any, rng: Any = None) -> Array:
        metric = self.space.metric
        step = h if metric is None else h / metric.diagonal(u)
        return split_at(self.functional, u).rough.at(t).prox(u, step)


@dataclass(frozen=True, eq=False)
class SmoothPart(VectorFlow):
    """dx/dt = -grad S(x), S what formulas with kinks leave."""

    def _total(self, name: str, t: Any, u: Array, zero: Array) -> Array:
        result = zero
        for term in split_at(self.functional, u).smooth:
            result = result + getattr(term, name)(u, t)
        return result

    def velocity(self, t: Any, u: Array) -> Array:
        """-grad S."""
        slope = self._total("gradient_at", t, u, namespace(u).zeros_like(u))
        metric = self.space.metric
        return -slope if metric is None else -metric.solve(u, slope)

    def energy(self, t: Any, u: Array) -> Any:
        """S: one number, or (b,) for b points."""
        return numbers(self._total("value_at", t, u, 0.0 * u[..., 0]))

    def resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        """v with v + h grad S(v) = w."""
        smooth, metric = split_at(self.functional, w).smooth, self.space.metric
        step = h if metric is None else h / metric.diagonal(w)
        start = memory[0] if memory else None
        v = composite_step(smooth, NOTHING, t, w, step, start)
        return v, (v,)
