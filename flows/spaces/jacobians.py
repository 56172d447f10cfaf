"""How the Jacobian of a flow of vectors is stored and its systems are solved.

``Euclidean(jacobian=...)`` takes one of ``Dense()``, ``Banded(lower, upper)``,
``Sparse(pattern)`` and ``Krylov(preconditioner)``. The Jacobian is -M^{-1} Hess V, so
what is said here is the structure of the Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import array_like, dtype_name, is_torch, namespace, to_numpy
from flows.linear import Operator
from flows.spaces.systems import (
    DenseSystem,
    KrylovSystem,
    System,
)

__all__ = [
    "Dense",
    "DiagonalJacobian",
    "Krylov",
    "Structure",
    "check_structure",
    "chosen",
    "moved",
    "operator",
    "weights_of",
]

Array = Any
Preconditioner = Callable[[Array, Any, Array], Array]
LARGEST_DENSE = 500
MOST_ENTRIES = 20_000_000


class Structure:
    """A way to hold Hess V; ``flow`` below is a ``EuclideanFlow``."""

    def check(self, n: int) -> None:
        """Raise ValueError where points cannot have ``n`` coordinates."""

    def jacobian(self, flow: Any, t: Any, u: Array) -> Any:
        """-M^{-1} Hess V at u, in one of the forms that ``linear.shifted`` takes."""
        raise NotImplementedError

    def system(
        self, flow: Any, t: Any, v: Array, h: Any, slope: Array | None = None
    ) -> System:
        """M + h Hess V at v; with ``slope`` = grad V(v) as Newton's method needs it."""
        raise NotImplementedError


def operator(flow: Any, t: Any, u: Array, inverse: Any = None) -> Operator:
    """The Jacobian by its products; ``inverse(c, r)`` is near (I - c J)^{-1} r."""
    metric = flow.space.metric
    H = flow.hessian_products(t, u)

    def product(v: Array) -> Array:
        Hv = H(v)
        return -Hv if metric is None else -metric.solve(u, Hv)

    weights = None if metric is None else metric.diagonal(u)
    plain = metric is None or (weights is not None and weights.shape[0] == 1)
    differences = any(term.function.differences for term in flow.functional.terms)
    accuracy = accuracy_of_differences(u) if differences else 0.0
    return Operator(product, plain, inverse, accuracy=accuracy)


def accuracy_of_differences(u: Array) -> float:
    """Relative error of central differences with the best step."""
    return float(np.finfo(dtype_name(u)).eps ** (2.0 / 3.0))


def moved(
    flow: Any, t: Any, u: Array, h: Any, slope: Array | None = None
) -> Callable[[Array], Array]:
    """The product v -> (M + h Hess V) v; prepared when first asked for."""
    metric = flow.space.metric
    prepared: list[Callable[[Array], Array]] = []

    def product(v: Array) -> Array:
        if not prepared:
            prepared.append(flow.hessian_products(t, u, slope))
        Mv = v if metric is None else metric.apply(u, v)
        return Mv + h * prepared[0](v)

    return product


def weights_of(flow: Any, u: Array) -> np.ndarray:
    """Weights (n,) of a diagonal metric; ValueError for any other."""
    metric = flow.space.metric
    w = np.ones(1) if metric is None else metric.diagonal(u)
    return np.broadcast_to(to_numpy(w).astype(np.float64), (u.shape[-1],))


@dataclass(frozen=True)
class Dense(Structure):
    """Full matrices (.., n, n); the rule up to 500 coordinates."""

    def jacobian(self, flow: Any, t: Any, u: Array) -> Array:
        """-M^{-1} Hess V, (.., n, n)."""
        H, metric = flow.hessian(t, u), flow.space.metric
        if metric is None:
            return -H
        weights = metric.diagonal(u)
        if weights is not None:
            return -H / weights[..., None]
        xp = namespace(u)
        points = xp.broadcast_to(u[..., None, :], H.shape)
        # Rows of the symmetric H are its columns.
        return -xp.matrix_transpose(metric.solve(points, H))

    def system(
        self, flow: Any, t: Any, v: Array, h: Any, slope: Array | None = None
    ) -> DenseSystem:
        """M + h Hess V, (.., n, n)."""
        metric = flow.space.metric
        M = array_like(np.eye(v.shape[-1]), v) if metric is None else metric.dense(v)
        step = h[..., None] if getattr(h, "ndim", 0) else h
        return DenseSystem(M + step * flow.hessian(t, v))


@dataclass(frozen=True)
class DiagonalJacobian(Structure):
    """Diagonal Hessians of separable potentials: chosen where they are recognized."""

    def jacobian(self, flow: Any, t: Any, u: Array) -> Any:
        """A matrix for few coordinates, else scipy sparse (n,) or an operator."""
        n, xp = u.shape[-1], namespace(u)
        d = -flow.coordinatewise(2, t, u)
        if flow.space.metric is not None:
            d = d / flow.space.metric.diagonal(u)
        if is_small(u):
            eye = array_like(np.eye(n), u)
            return xp.where(eye != 0, d[..., None], xp.zeros_like(eye))
        if u.ndim == 1 and not is_torch(u):
            from scipy.sparse import diags_array

            return diags_array(d, format="csc")
        return Operator(lambda v: d * v, diagonal=d)


@dataclass(frozen=True, eq=False)
class Krylov(Structure):
    """Hess V by its products with vectors alone: memory O(n); the rule for many.

    Systems are solved by conjugate gradients, as exactly as Newton's method needs at
    each iteration; implicit steps end at a residual of 2e-12 (float32: 8e-6) relative
    to the state.

    Parameters
    ----------
    preconditioner : callable, optional
        ``preconditioner(x, c, r)``: an approximation of (I + c M^{-1} Hess V(x))^{-1} r
        for c > 0, a number or (b, 1), linear in r; without a metric symmetric and
        positive definite.

    Raises
    ------
    TypeError
        For a preconditioner that cannot be called.
    """

    preconditioner: Preconditioner | None = None

    def __post_init__(self) -> None:
        if self.preconditioner is not None and not callable(self.preconditioner):
            raise TypeError(
                "`preconditioner` must be callable(x, c, r), got "
                f"{self.preconditioner!r}."
            )

    def _apply(self, x: Array, c: Any, r: Array) -> Array:
        if self.preconditioner is None:
            return r
        found = self.preconditioner(x, c, r)
        if found is None:
            raise TypeError("`preconditioner` returned None; did you forget `return`?")
        if tuple(np.shape(found)) != tuple(r.shape):
            raise ValueError(
                f"`preconditioner` returned shape {tuple(np.shape(found))} for vectors "
                f"of shape {tuple(r.shape)}; they must be equal."
            )
        return found

    def jacobian(self, flow: Any, t: Any, u: Array) -> Operator:
        """``linear.Operator``."""
        own = self.preconditioner
        inverse = None if own is None else lambda c, r: self._apply(u, c, r)
        return operator(flow, t, u, inverse)

    def system(
        self, flow: Any, t: Any, v: Array, h: Any, slope: Array | None = None
    ) -> KrylovSystem:
        """M + h Hess V by its products."""
        metric = flow.space.metric

        def precondition(r: Array) -> Array:
            z = r if metric is None else metric.solve(v, r)
            return self._apply(v, h, z)

        plain = metric is None and self.preconditioner is None
        tolerance = 1e4 if dtype_name(v) == "float64" else 64.0
        return KrylovSystem(
            moved(flow, t, v, h, slope),
            None if plain else precondition,
            tolerance,
            moved(flow, t, v, h),
        )


def chosen(flow: Any, u: Array) -> Structure:
    """What ``jacobian=None`` means for states like ``u``."""
    if flow.separable:
        return DiagonalJacobian()
    return Dense() if is_small(u) else Krylov()


def is_small(u: Array) -> bool:
    """Whether matrices (.., n, n) at states like ``u`` are worth their memory."""
    n, members = u.shape[-1], u.shape[0] if u.ndim > 1 else 1
    return bool(n <= LARGEST_DENSE and members * n * n <= MOST_ENTRIES)


def check_structure(jacobian: Any, metric: Any) -> None:
    """Refuse what is no structure, and bands with a metric that fills them.

    Raises
    ------
    TypeError, ValueError
    """
    if jacobian is None:
        return
    if isinstance(jacobian, type):
        raise TypeError(
            f"`jacobian` is the class {jacobian.__name__}; write "
            f"`fl.{jacobian.__name__}(...)`."
        )
    if not isinstance(jacobian, Structure):
        raise TypeError(
            "`jacobian` must be fl.Dense(), fl.Banded(lower, upper), "
            f"fl.Sparse(pattern) or fl.Krylov(), got {jacobian!r}."
        )
    if metric is None or isinstance(jacobian, (Dense, Krylov)):
        return
    if metric.diagonal(np.ones(1)) is None:
        raise ValueError(
            f"{jacobian!r} needs a diagonal metric: with this one the systems have no "
            "bands and no pattern. Use fl.Krylov() or fl.Dense()."
        )
