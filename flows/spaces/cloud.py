"""What the spaces of particles share: states (n, d), and forces on points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, numbers, to_numpy
from flows.energies import Interaction, Potential
from flows.flow import Flow
from flows.measures import Dirac, Empirical
from flows.random import Stream, as_seed
from flows.spaces.base import Space, check_device
from flows.spaces.formulas import is_quadratic
from flows.spaces.implicit import total_potential
from flows.spaces.pairs import Pairs, recognize

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["CloudFlow", "CloudSpace", "Linear", "is_linear"]

Array = Any
Drift = Callable[[Array], Array]


@dataclass(frozen=True)
class CloudSpace(Space):
    """States (n, d) of n particles; common part of the particle spaces."""

    n: int
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_count(self.n)
        check_device(self.device, self.dtype)

    def __repr__(self) -> str:
        return self.written(str(self.n))

    def project(self, measure: Any, rng: Any = None) -> Array:
        """n independent points of a measure, from the stream "initial" of ``rng``.

        A Dirac mass, and an empirical measure of n points without weights, are taken
        as they are and need no ``rng``.

        Raises
        ------
        ValueError
            Without ``rng``.
        """
        if isinstance(measure, Dirac):
            return self.create(np.tile(measure.point, (self.n, 1)))
        if isinstance(measure, Empirical) and self._holds(measure):
            return self.create(measure.points)
        if rng is None:
            raise ValueError(
                f"{self!r} draws its points from {measure!r} at random: give rng=..., "
                "an integer seed or a NumPy Generator."
            )
        stream = rng if isinstance(rng, Stream) else Stream(as_seed(rng), "initial")
        return self.create(measure.sample(self.n, stream.generator()))

    def _holds(self, measure: Empirical) -> bool:
        """Whether the points of ``measure`` are a state."""
        w = measure.weights
        equal = w is None or bool(np.all(w == w[0]))
        return equal and measure.points.shape[0] == self.n

    def measure(self, u: Array) -> Empirical:
        """Empirical measure of the particles."""
        return Empirical(to_numpy(u))

    def points(self, u: Array) -> Array:
        """Where potentials are evaluated: the state itself."""
        return u

    def shape_error(self, u: Array) -> str | None:
        """None for a state (n, d), else what was expected."""
        shape = tuple(u.shape)
        name = type(self).__name__
        if len(shape) == 1:
            return (
                f"`u0` has shape {shape}; {name} takes (n, d), one row a particle: "
                f"for {shape[0]} points of the line give `x[:, None]`."
            )
        if len(shape) != 2:
            return f"`u0` has shape {shape}; {name} takes (n, d), one row a particle."
        if shape[0] != self.n:
            return (
                f"`u0` has {shape[0]} rows, but {self!r} has {self.n} particles; use "
                f"{name}({shape[0]})."
            )
        return None


def check_count(n: Any) -> None:
    """Refuse a number of points that is not a positive integer."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"`n` must be a positive integer, got {n!r}.")
    if n < 1:
        raise ValueError(f"`n` must be a positive integer, got {n}.")


def check_drift(drift: Any) -> None:
    """Refuse a drift that cannot be called."""
    if drift is not None and not callable(drift):
        raise TypeError(f"`drift` must be callable(x), got {drift!r}.")


@dataclass(frozen=True, eq=False)
class Linear:
    """Flow dx_i/dt = g - A x_i - K (x_i - mean x), with its eigenvectors.

    The mean feels A, the deviations from it A + K.
    """

    force: Array
    mean: tuple[Array, Array]
    deviation: tuple[Array, Array]

    @classmethod
    def of(cls, A: Array, g: Array, K: Array | None) -> Linear:
        """Diagonalize symmetric A and A + K."""
        first = spectrum(A)
        return cls(g, first, first if K is None else spectrum(A + K))

    @property
    def stiffness(self) -> float:
        """Largest eigenvalue."""
        return float(max(self.mean[0].max(), self.deviation[0].max()))

    def apply(
        self,
        x: Array,
        factor: Callable[[Array], Array],
        source: Callable[[Array], Array] | None = None,
    ) -> Array:
        """factor(A) mean x + source(A) g + factor(A + K) (x - mean x) for x (n, d)."""
        xp = namespace(x)
        m = xp.mean(x, axis=0)
        result = xp.matmul(x - m, array_like(function_of(self.deviation, factor), x))
        center = xp.matmul(array_like(function_of(self.mean, factor), x), m)
        if source is not None:
            pull = function_of(self.mean, source) @ self.force
            center = center + array_like(pull, x)
        return result + center


def spectrum(A: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors; those of a diagonal matrix are exact."""
    if np.array_equal(A, np.diag(np.diag(A))):
        return np.diag(A).copy(), np.eye(len(A))
    values, vectors = np.linalg.eigh(A)
    return values, vectors


def function_of(pair: tuple[Array, Array], f: Callable[[Array], Array]) -> Array:
    """Matrix f(A) from the eigenvalues and eigenvectors of A."""
    values, vectors = pair
    return (vectors * f(values)) @ vectors.T


def relaxed(a: Array, h: float) -> Array:
    """Integral of exp(-a s) over [0, h]."""
    safe = np.where(a == 0.0, 1.0, a)
    return np.where(a == 0.0, h, -np.expm1(-safe * h) / safe)


def is_linear(energy: Energy) -> bool:
    """Whether the potentials and interactions are all quadratic."""
    return all(
        is_quadratic(term.function) and not term.time_dependent
        for term in energy.terms
        if isinstance(term, (Potential, Interaction))
    )


@dataclass(frozen=True, eq=False)
class CloudFlow(Flow):
    """dx_i/dt = -grad V(x_i) - (1/n) sum_j grad W(x_i - x_j) + drift(x_i)."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    functional: Energy
    drift: Drift | None = None
    is_gradient: bool = field(init=False, default=True, repr=False)
    potentials: tuple[Potential, ...] = field(init=False, repr=False)
    interactions: tuple[Interaction, ...] = field(init=False, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_drift(self.drift)
        terms = self.functional.terms
        for name, kind in (("potentials", Potential), ("interactions", Interaction)):
            own = tuple(term for term in terms if isinstance(term, kind))
            object.__setattr__(self, name, own)
        object.__setattr__(self, "is_gradient", self.drift is None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def pairs(self, d: int) -> Pairs:
        """The interactions, split into what is recognized in dimension d."""
        if d not in self._cache:
            self._cache[d] = recognize(self.interactions, d)
        found: Pairs = self._cache[d]
        return found

    def velocity(self, t: float, u: Array) -> Array:
        """The force on every particle, (n, d)."""
        v = None
        for term in self.potentials:
            # One product with -scale instead of a scaled gradient and its negative.
            pull = -term.scale * term.function.gradient(u, t)
            v = pull if v is None else v + pull
        if self.interactions:
            force = self.pairs(u.shape[1]).force(t, u)
            v = force if v is None or force is None else v + force
        if self.drift is not None:
            push = drift_at(self.drift, u)
            v = push if v is None else v + push
        return namespace(u).zeros_like(u) if v is None else v

    def _energy(self, t: float, u: Array) -> Any:
        """mean V(x_i) + (1/2n^2) sum_ij W(x_i - x_j)."""
        total: Any = 0.0
        if self.potentials:
            V = total_potential("value_at", self.potentials, t, u)
            total = numbers(namespace(u).mean(V))
        if self.interactions:
            total = total + self.pairs(u.shape[1]).energy(t, u)
        return total

    def inner(self, u: Array, a: Array, b: Array) -> Any:
        """mean a_i.b_i over the particles."""
        total = numbers(namespace(a).sum(a * b))
        return total / int(a.shape[0])

    def _linear(self, d: int) -> Linear:
        """The matrices of a flow whose energy ``is_linear``."""
        if ("linear", d) not in self._cache:
            x = np.zeros((1, d))
            A, g = np.zeros((d, d)), np.zeros(d)
            if self.potentials:
                A = total_potential("hessian_at", self.potentials, 0.0, x)[0]
                g = -total_potential("gradient_at", self.potentials, 0.0, x)[0]
            self._cache["linear", d] = Linear.of(A, g, self.pairs(d).matrix)
        found: Linear = self._cache["linear", d]
        return found


def drift_at(drift: Drift, x: Array) -> Array:
    """Drift at points x (n, d), with the shape checked."""
    push = drift(x)
    if push is None:
        raise TypeError("`drift` returned None; did you forget `return`?")
    if tuple(getattr(push, "shape", ())) != tuple(x.shape):
        raise ValueError(
            f"`drift` returned shape {tuple(np.shape(push))} for points of shape "
            f"{tuple(x.shape)}; they must be equal."
        )
    return push
