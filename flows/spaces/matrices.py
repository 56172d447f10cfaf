"""Matrices as points: the chart of their entries over flows of vectors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace, numbers
from flows.energies import Energy, Potential, Sum
from flows.flow import Flow
from flows.nonsmooth import ProxField
from flows.spaces.base import Space, check_device, potentials
from flows.spaces.costs import check_sizes
from flows.spaces.euclidean import Euclidean
from flows.spaces.points import checked_drift, law_of, points_of
from flows.symbolic import CallableField

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Entries", "Matrices", "MatrixFlow", "MatrixSpace", "on_entries"]

Array = Any


@dataclass(frozen=True, eq=False)
class Entries:
    """A function of matrices (.., n, k) as a function of their entries (.., n k).

    ``result`` is the shape of one value: () of V, (n, k) of a gradient or a proximal
    map, (n, k, n, k) of a Hessian.
    """

    function: Callable[..., Array]
    shape: tuple[int, int]
    result: tuple[int, ...] = ()
    name: str = "V"

    def __post_init__(self) -> None:
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        self.__dict__["__qualname__"] = name

    def __call__(self, x: Array, *more: Any) -> Array:
        lead = tuple(x.shape[:-1])
        y = self.function(namespace(x).reshape(x, (*lead, *self.shape)), *more)
        expected = (*lead, *self.result)
        if y is None or tuple(np.shape(y)) != expected:
            got = "None" if y is None else f"shape {tuple(np.shape(y))}"
            raise ValueError(
                f"`{self.name}` returned {got} for matrices of shape "
                f"{(*lead, *self.shape)}, expected {expected}; write it for (.., n, k),"
                " for instance (X**2).sum((-2, -1))."
            )
        if not self.result:
            return y
        n, k = self.shape
        sides = (n * k,) * (len(self.result) // 2)
        return namespace(y).reshape(y, (*lead, *sides))


def on_entries(energy: Energy, shape: tuple[int, int], space: Any) -> Energy:
    """The same energy of the entries: Python callables of matrices are wrapped.

    Formulas have the entries x1, x2, .. row by row as coordinates, and r is the
    Frobenius norm.

    Raises
    ------
    TypeError
        For a term that is not a Potential.
    """
    found = potentials(energy, space, "a matrix has no density and no pairs")
    terms = [_wrapped(term, shape) for term in found]
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _wrapped(term: Potential, shape: tuple[int, int]) -> Potential:
    """The term with its callables made functions of the entries, once."""
    found = term.function
    if isinstance(found, ProxField):
        own = found.on_entries(shape)
        return term if own is found else replace(term, V=own, prox=own.prox)
    prox = term.prox
    if prox is not None and not isinstance(prox, Entries):
        prox = Entries(prox, shape, shape, "prox")
    if type(found) is not CallableField or isinstance(found.function, Entries):
        return term if prox is term.prox else replace(term, prox=prox)
    first, second = found.first, found.second
    return replace(
        term,
        V=Entries(found.function, shape),
        gradient=first and Entries(first, shape, shape, "gradient"),
        hessian=second and Entries(second, shape, (*shape, *shape), "hessian"),
        prox=prox,
    )


@dataclass(frozen=True, eq=False)
class ForceOnEntries:
    """A drift of matrices as a drift of their entries."""

    drift: Callable[[Array], Array]
    shape: tuple[int, int]

    def __call__(self, x: Array) -> Array:
        return Entries(self.drift, self.shape, self.shape, "drift")(x)


def driven(drift: Any, shape: tuple[int, int]) -> ForceOnEntries | None:
    """A drift of matrices, or none, as one of their entries.

    Raises
    ------
    TypeError
        For what cannot be called.
    """
    checked_drift(drift)
    return None if drift is None else ForceOnEntries(drift, shape)


class EntriesChart:
    """The chart of a flow that steps the entries z (.., n k) of matrices."""

    space: Any

    def encode(self, u: Array) -> Array:
        """The entries (.., n k)."""
        return self.space.flatten(u)

    def decode(self, z: Array) -> Array:
        """The matrices (.., n, k)."""
        return self.space.unflatten(z)


class MatrixSpace(Space):
    """What spaces of matrices (n, k) share; ``shape`` is (n, k)."""

    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    def flatten(self, u: Array) -> Array:
        """Entries (.., n k) of matrices (.., n, k)."""
        return namespace(u).reshape(u, (*u.shape[:-2], self.size))

    def unflatten(self, z: Array) -> Array:
        """Matrices (.., n, k) of entries (.., n k)."""
        return namespace(z).reshape(z, (*z.shape[:-1], *self.shape))

    def points(self, u: Array) -> Array:
        """Where the potential is evaluated: the entries."""
        return self.flatten(u)

    def project(self, measure: Any, rng: Any = None) -> Array:
        """The matrix of a Dirac measure of its entries, or those of an empirical one.

        Raises
        ------
        TypeError, ValueError
            For other measures, points of other sizes, and what is no state here.
        """
        z = self.create(points_of(measure, self))
        if z.shape[-1] != self.size:
            raise ValueError(
                f"{measure!r} has {z.shape[-1]} coordinates, {self!r} {self.size}."
            )
        u = self.unflatten(z)
        problem = self.shape_error(u)
        if problem:
            raise ValueError(problem)
        return u

    def measure(self, u: Array) -> Any:
        """Dirac measure of the entries of (n, k), or the empirical one of (b, n, k)."""
        return law_of(self.flatten(u))

    def distance(self, u: Array, v: Array) -> Any:
        """Frobenius norm of u - v: one number, or (b,) for b matrices."""
        xp = namespace(u)
        return numbers(xp.sqrt(xp.sum((u - v) ** 2, axis=(-2, -1))))

    def shape_error(self, u: Array) -> str | None:
        n, k = self.shape
        if u.ndim in (2, 3) and tuple(u.shape[-2:]) == (n, k):
            return None
        return (
            f"`u0` has shape {tuple(u.shape)}; {self!r} takes ({n}, {k}), one matrix, "
            f"or (b, {n}, {k}), b matrices."
        )


@dataclass(frozen=True)
class SizedMatrices(MatrixSpace):
    """Spaces of matrices (n, k) that are typed with their sizes."""

    n: int
    k: int
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self.n, self.k)
        check_device(self.device, self.dtype)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return (self.n, self.k)

    def __repr__(self) -> str:
        return self.written(f"{self.n}", f"{self.k}")


@dataclass(frozen=True, repr=False)
class Matrices(SizedMatrices):
    """Matrices (n, k) with the Frobenius product: dX/dt = -grad V(X).

    A state (n, k) is one matrix, (b, n, k) is b matrices, each with its own path.
    Python callables (V, ``gradient``, ``hessian``, ``prox``, ``drift``) get matrices
    (.., n, k); V returns (..), gradients and proximal maps (.., n, k), Hessians
    (.., n, k, n, k). In formulas x1, x2, .. are the entries, row by row, and r is the
    Frobenius norm. Everything else is as in ``Euclidean``, on the n k entries.

    Parameters
    ----------
    n, k : int
    device, dtype : str, optional
        None follows the state.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.Matrices(2, 2).flow(fl.Potential("r**2/2"))
    >>> sol = fl.solve(flow, np.eye(2), (0, 1), fl.ImplicitEuler(), dt=1.0)
    >>> sol.u[-1]
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow dX/dt = -grad V(X) + drift(X).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        entries = on_entries(energy, self.shape, self)
        push = driven(drift, self.shape)
        flat = Euclidean(device=self.device, dtype=self.dtype).flow(entries, push)
        return MatrixFlow(self, entries, flat)


@dataclass(frozen=True, eq=False)
class MatrixFlow(EntriesChart, Flow):
    """A flow of entries, ``flat``, whose states are shown as matrices.

    ``functional`` is the energy as a function of the entries.
    """

    # Without `field()` the class attribute of Flow would be a default.
    space: Any = field()
    functional: Energy
    flat: Flow = field(repr=False)

    @property
    def is_gradient(self) -> bool:  # type: ignore[override]
        return self.flat.is_gradient

    def energy(self, t: Any, u: Array) -> Any:
        """V at matrices: one number, or (b,) for b of them."""
        return self.flat.energy(t, self.encode(u))

    def __getattr__(self, name: str) -> Any:
        # What the flow of the entries offers is offered here, in the chart.
        if not name.startswith("_") and "flat" in self.__dict__:
            return getattr(self.flat, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
