"""Gradient flows of vectors: dx/dt = -grad V(x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from flows.arrays import array_like, batch_matvec, namespace, to_numpy
from flows.energies import Energy, Potential
from flows.flow import Flow, Memory
from flows.linear import NewtonFailure
from flows.measures import Dirac, Empirical
from flows.spaces.base import Space, check_device, refuse
from flows.spaces.cloud import drift_at
from flows.spaces.kinks import kink_prox
from flows.spaces.pointwise import pointwise_prox
from flows.symbolic import Constant, QuadraticField

__all__ = ["Euclidean"]

Array = Any
ImplicitStep = Callable[[float, Array, float, Memory], tuple[Array, Memory]]


@dataclass(frozen=True)
class Euclidean(Space):
    """R^n with its inner product: dx/dt = -grad V(x).

    A state (n,) is one point of R^n; (b, n) is b points, each with its own path.

    Parameters
    ----------
    device, dtype : str, optional
        None follows the state.

    Examples
    --------
    >>> import flows as fl
    >>> fl.Euclidean().flow(fl.quadratic([1.0, 4.0])).velocity(0.0, np.ones(2))
    array([-1., -4.])
    """

    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)

    def __repr__(self) -> str:
        return self.written()

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow dx/dt = -grad V(x) + drift(x).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        for term in energy.terms:
            if not isinstance(term, Potential):
                raise refuse(term, self, "a vector has no density and no pairs")
        if drift is not None:
            if not callable(drift):
                raise TypeError(f"`drift` must be callable(x), got {drift!r}.")
            return DriftFlow(self, energy, drift)
        if all(
            isinstance(t.function, (QuadraticField, Constant)) for t in energy.terms
        ):
            return QuadraticFlow(self, energy)
        return EuclideanFlow(self, energy)

    def project(self, measure: Any, rng: Any = None) -> Array:
        """The point of a Dirac measure, or the points (b, n) of an empirical one.

        Raises
        ------
        TypeError, ValueError
            For other measures, and for points of different weights.
        """
        if isinstance(measure, Dirac):
            return self.create(np.atleast_1d(np.asarray(measure.mean, dtype=float)))
        if isinstance(measure, Empirical):
            if np.ptp(measure.masses) > 0.0:
                raise ValueError(
                    f"{measure!r} has weights, but {self!r} moves each point by "
                    "itself; give its `points`."
                )
            return self.create(measure.atoms)
        raise TypeError(
            f"{self!r} takes an array or a Dirac measure as `u0`, got {measure!r}; "
            "measures live on Grid, Quantiles or Particles."
        )

    def measure(self, u: Array) -> Any:
        """Dirac measure at a point (n,), or the empirical measure of (b, n)."""
        x = to_numpy(u)
        return Dirac(x) if x.ndim == 1 else Empirical(x)

    def distance(self, u: Array, v: Array) -> Any:
        """|u - v|: one number, or (b,) for b points."""
        xp = namespace(u)
        d = xp.sqrt(xp.sum((u - v) ** 2, axis=-1))
        return float(d) if d.ndim == 0 else d

    def points(self, u: Array) -> Array:
        """Where the potential is evaluated: the state itself."""
        return u

    def shape_error(self, u: Array) -> str | None:
        if u.ndim in (1, 2):
            return None
        return (
            f"`u0` has shape {tuple(u.shape)}; Euclidean takes (n,), one point of R^n, "
            "or (b, n), b points. A number x is np.array([x])."
        )


def total(functional: Energy, name: str, t: float, x: Array) -> Array:
    """Sum over the terms of ``value_at``, ``gradient_at`` or ``hessian_at``."""
    first, *rest = functional.terms
    result = getattr(first, name)(x, t)
    for term in rest:
        result = result + getattr(term, name)(x, t)
    return result


@dataclass(frozen=True, eq=False)
class EuclideanFlow(Flow):
    """dx/dt = -grad V(x), V a sum of potentials."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Euclidean = field()
    functional: Energy

    def velocity(self, t: float, u: Array) -> Array:
        """-grad V."""
        return -total(self.functional, "gradient_at", t, u)

    def energy(self, t: float, u: Array) -> Any:
        """V: one number, or (b,) for b points."""
        value = total(self.functional, "value_at", t, u)
        return float(value) if value.ndim == 0 else value

    def jacobian(self, t: float, u: Array) -> Array:
        """Minus the Hessian, (.., n, n)."""
        return -total(self.functional, "hessian_at", t, u)

    @cached_property
    def kinked(self) -> bool:
        """Whether implicit steps need a proximal map of their own."""
        terms = self.functional.terms
        return any(t.prox is not None or not t.function.smooth for t in terms)

    @property
    def resolvent(self) -> ImplicitStep:
        """v with v + h grad V(t, v) = w, from the last state in ``memory``.

        With kinks it is ``prox``, which solves the inclusion; TypeError where that is
        not known.
        """
        return kink_prox(self.functional) if self.kinked else self._resolvent

    @property
    def prox(self) -> ImplicitStep:
        """argmin_v V(t, v) + |u - v|^2 / 2h; TypeError where no method is known.

        Of a V that is not convex it is a local minimum, below the value at u.
        """
        return kink_prox(self.functional) if self.kinked else self._smooth_prox

    def _resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        return self._newton(t, w, h, memory[0] if memory else w)

    def _smooth_prox(
        self, t: float, u: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        return self._newton(t, u, h, u, minimum=True)

    def _newton(
        self, t: float, u: Array, h: float, start: Array, minimum: bool = False
    ) -> tuple[Array, Memory]:
        v, _ = pointwise_prox(
            lambda x: total(self.functional, "value_at", t, x),
            lambda x: total(self.functional, "gradient_at", t, x),
            lambda x: total(self.functional, "hessian_at", t, x),
            u,
            h,
            start,
            minimum,
        )
        return v, (v,)

    def default(self) -> tuple[str, None]:
        """Adaptive TR-BDF2: stiff potentials are the rule. Else Dormand-Prince."""
        try:
            self.resolvent  # noqa: B018
        except TypeError:
            return "DormandPrince", None
        return "TRBDF2", None


@dataclass(frozen=True, eq=False)
class QuadraticFlow(EuclideanFlow):
    """dx/dt = g - A x: everything is known in the eigenbasis of A."""

    _cache: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def _spectrum(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues, eigenvectors and the constant force g of A in R^n."""
        if n not in self._cache:
            x = np.zeros(n)
            A = total(self.functional, "hessian_at", 0.0, x)
            g = -total(self.functional, "gradient_at", 0.0, x)
            diagonal = np.array_equal(A, np.diag(np.diag(A)))
            values, vectors = (np.diag(A), np.eye(n)) if diagonal else np.linalg.eigh(A)
            self._cache[n] = values, vectors, g
        result: tuple[np.ndarray, np.ndarray, np.ndarray] = self._cache[n]
        return result

    def _spectral(self, u: Array, factors: Any, forces: Any) -> Array:
        """sum_i q_i (factors_i q_i.u + forces_i q_i.g)."""
        values, vectors, g = self._spectrum(u.shape[-1])
        q = array_like(vectors, u)
        inner = batch_matvec(array_like(vectors.T, u), u)
        scaled = array_like(factors(values), u) * inner
        return batch_matvec(q, scaled + array_like(forces(values) * (vectors.T @ g), u))

    def _resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """(I + h A)^{-1} (w + h g)."""
        values = self._spectrum(w.shape[-1])[0]
        if np.any(1.0 + h * values <= 0.0):
            raise NewtonFailure(
                f"V + |v - u|^2/2h has no minimum at h = {h:g}: the smallest "
                f"eigenvalue of A is {values.min():g}",
                [],
            )
        v = self._spectral(
            w, lambda a: 1.0 / (1.0 + h * a), lambda a: h / (1.0 + h * a)
        )
        return v, (v,)

    def _smooth_prox(
        self, t: float, u: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        return self._resolvent(t, u, h, memory)

    def exact(self, t: float, u: Array, h: float, rng: Any = None) -> Array:
        """The flow map; a kernel component of the force drifts as h g."""

        def integral(a: np.ndarray) -> np.ndarray:
            safe = np.where(a == 0.0, 1.0, a)
            return np.where(a == 0.0, h, -np.expm1(-safe * h) / safe)

        return self._spectral(u, lambda a: np.exp(-a * h), integral)

    def stable_step(self, t: float, u: Array) -> float:
        """2 / largest eigenvalue of A."""
        largest = float(self._spectrum(u.shape[-1])[0].max())
        return 2.0 / largest if largest > 0.0 else np.inf


@dataclass(frozen=True, eq=False)
class DriftFlow(Flow):
    """dx/dt = -grad V(x) + drift(x): no gradient flow unless the drift is one."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Euclidean = field()
    functional: Energy
    drift: Callable[[Array], Array] = field(repr=False)
    is_gradient = False

    def velocity(self, t: float, u: Array) -> Array:
        """-grad V + drift."""
        return drift_at(self.drift, u) - total(self.functional, "gradient_at", t, u)

    def energy(self, t: float, u: Array) -> Any:
        """V, which need not fall."""
        value = total(self.functional, "value_at", t, u)
        return float(value) if value.ndim == 0 else value

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None
