"""The Moreau envelope: what a proximal step descends by an Euler step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import namespace
from flows.energies import Energy, Potential
from flows.flow import offers
from flows.nonsmooth import ProxField, potential
from flows.nonsmooth.base import identity
from flows.spaces import Euclidean
from flows.symbolic.fields import points

__all__ = ["Envelope", "moreau_envelope"]

Array = Any


def moreau_envelope(source: Any, h: float) -> Potential:
    """The envelope E_h(x) = min_v F(v) + abs(x - v)^2 / 2h of an energy of vectors.

    It is finite everywhere, has the minimizers of F, and its gradient is
    (x - prox(x)) / h, with Lipschitz constant 1/h where F is convex: an explicit Euler
    step of size h on E_h is the proximal step of size h on F. Values, gradients and
    proximal maps are exact to the accuracy of the proximal map of F.

    Parameters
    ----------
    source : Energy or Flow
        Of vectors, with a proximal step; of matrices only ``nonsmooth.nuclear`` and its
        kin.
    h : float
        Step of the proximal map, positive.

    Returns
    -------
    Potential

    Raises
    ------
    TypeError, ValueError
        Without a proximal step, for an energy that depends on time, and for h <= 0.

    References
    ----------
    J.-J. Moreau, Proximite et dualite dans un espace hilbertien, Bull. Soc. Math.
    France 93 (1965) 273-299, doi:10.24033/bsmf.1625.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> E = fl.theory.moreau_envelope(fl.nonsmooth.l1(1.0), 0.5)
    >>> E.gradient_at(np.array([2.0, 0.1]))
    array([1. , 0.2])
    """
    if isinstance(h, bool) or not isinstance(h, (int, float, np.floating)):
        raise TypeError(f"`h` must be a number, got {h!r}.")
    if not 0.0 < h < np.inf:
        raise ValueError(f"`h` must be positive and finite, got {h!r}.")
    functional = source if isinstance(source, Energy) else source_energy(source)
    if functional.depends_on_time:
        raise TypeError(f"`{functional!r}` depends on time; an envelope has none.")
    terms = functional.terms
    field, scale = terms[0].function, terms[0].scale
    if len(terms) == 1 and isinstance(field, ProxField) and scale > 0.0:
        own = field.scaled(scale)
        return potential(Envelope(own, float(h), repr(functional), own.axes))
    flow = Euclidean().flow(source) if isinstance(source, Energy) else source
    if not (offers(flow, "prox") and offers(flow, "energy")):
        raise TypeError(f"{source!r} offers no proximal step of an energy.")
    return potential(Envelope(ByFlow(flow), float(h), repr(functional)))


def source_energy(flow: Any) -> Any:
    """The energy of a flow of vectors."""
    functional = getattr(flow, "functional", None)
    if functional is None or not isinstance(flow.space, Euclidean):
        raise TypeError(
            f"`source` must be an energy or a flow of vectors, got {flow!r}."
        )
    return functional


@dataclass(frozen=True, eq=False)
class ByFlow:
    """An energy through the proximal steps of its flow."""

    flow: Any

    @property
    def dimension(self) -> Any:
        """Coordinates of the points; None for any number."""
        named = {t.function.dimension for t in self.flow.functional.terms} - {None}
        return max(named, default=None)

    def value(self, x: Array) -> Array:
        """F at points."""
        xp = namespace(x)
        whole = xp.reshape(x, (-1, x.shape[-1]))
        return xp.reshape(self.flow.energy(0.0, whole), tuple(x.shape[:-1]))

    def prox(self, x: Array, h: Any) -> Array:
        """The proximal map of F."""
        if x.ndim < 3:
            v, _ = self.flow.prox(0.0, x, h, ())
            return v
        xp = namespace(x)
        v, _ = self.flow.prox(0.0, xp.reshape(x, (-1, x.shape[-1])), h, ())
        return xp.reshape(v, tuple(x.shape))

    def derivative(self, x: Array, h: Any) -> Array:
        """(I + h Hess F)^{-1} at prox(x)."""
        if self.flow.kinked:
            raise TypeError(f"The second derivatives of {self.flow!r} are not known.")
        xp = namespace(x)
        H = self.flow.hessian(0.0, self.prox(x, h))
        step = h[..., None] if getattr(h, "ndim", 0) else h
        return xp.linalg.inv(identity(x) + step * H)


@dataclass(frozen=True, eq=False, repr=False)
class Envelope(ProxField):
    """Moreau envelope with step h of ``of``, which has values and a proximal map."""

    of: Any
    h: float
    text: str
    axes: Any = 1
    factor: float = 1.0

    def __repr__(self) -> str:
        return f"moreau_envelope({self.text}, {self.h:g})"

    @property
    def lipschitz(self) -> float:
        """Of the gradient, where F is convex."""
        return self.factor / self.h

    @property
    def dimension(self) -> Any:
        """Coordinates of the points; None for any number."""
        return None if self.axes == 2 else self.of.dimension

    @property
    def separable(self) -> bool:
        """Whether F is a sum over the coordinates."""
        return bool(getattr(self.of, "separable", False))

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        v = self.of.prox(x, self.h)
        axes = tuple(range(-self.axes, 0))
        move = namespace(x).sum((x - v) ** 2, axis=axes)
        return self.factor * (self.of.value(v) + move / (2.0 * self.h))

    def least(self, x: Array, g: Array) -> Array:
        return g + (self.factor / self.h) * (x - self.of.prox(x, self.h))

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        D = self.of.derivative(x, self.h)
        eye = identity(x)
        D = D[..., None] * eye if self.separable else D
        return (self.factor / self.h) * (eye - D)

    def prox(self, x: Array, h: Any) -> Array:
        # E_h with step s is F with step h + s: x + s/(h + s) (prox_{h+s} x - x).
        step = h * self.factor
        if self.axes == 2 and getattr(step, "ndim", 0):
            return x + (step / (self.h + step))[..., None] * (
                self.of.prox(x, self.h + step) - x
            )
        part = step / (self.h + step)
        return x + part * (self.of.prox(x, self.h + step) - x)

    def derivative(self, x: Array, h: Any) -> Array:
        step = h * self.factor
        part = step / (self.h + step)
        D = self.of.derivative(x, self.h + step)
        if self.separable:
            return 1.0 + part * (D - 1.0)
        wide = part[..., None] if getattr(part, "ndim", 0) else part
        return identity(x) + wide * (D - identity(x))

    def scaled(self, factor: float) -> Envelope:
        return Envelope(self.of, self.h, self.text, self.axes, factor * self.factor)
