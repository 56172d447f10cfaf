"""Gradient flows of symmetric positive definite matrices, in their logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace, numbers, to_numpy
from flows.spaces.base import check_device
from flows.spaces.costs import check_sizes
from flows.spaces.matrices import EntriesChart, MatrixSpace, driven, on_entries
from flows.spaces.points import DrivenFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Flow

__all__ = ["SPD"]

Array = Any


@dataclass(frozen=True)
class SPD(MatrixSpace):
    """Symmetric positive definite matrices with the metric tr(X^-1 dX X^-1 dX).

    X' = -X sym(G) X with the gradient G of V at X, the same in all coordinates: with Y
    = A X A^T nothing changes. Steps are taken in the chart Z = log X, so states are
    positive definite at every step size; in one dimension it is ``Mirror.burg()`` in
    another chart. A state (n, n) is one matrix, (b, n, n) is b of them. Callables and
    formulas are read as in ``Matrices``.

    Parameters
    ----------
    n : int
    device, dtype : str, optional
        None follows the state.

    Notes
    -----
    ``distance`` is geodesic: the length of the logarithms of the eigenvalues of X^-1 Y.

    References
    ----------
    R. Bhatia, Positive Definite Matrices, Princeton University Press (2007),
    doi:10.1515/9781400827787.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.SPD(2).flow(fl.Potential("x1 + x4 + 0*x2"))
    >>> sol = fl.solve(flow, np.eye(2), (0, 1), fl.RK4(), dt=0.01)
    >>> bool(np.abs(sol.u[-1] - np.eye(2) / 2).max() < 1e-9)
    True
    """

    n: int
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self.n, self.n)
        check_device(self.device, self.dtype)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return (self.n, self.n)

    def __repr__(self) -> str:
        return self.written(f"{self.n}")

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow X' = X sym(drift(X) - G) X; the drift is a force like -G.

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        push = driven(drift, self.shape)
        return PositiveFlow(self, on_entries(energy, self.shape, self), push)

    def distance(self, u: Array, v: Array) -> Any:
        """Geodesic distance: one number, or (b,) for b pairs."""
        xp = namespace(u)
        L = xp.linalg.cholesky(u)
        half = xp.linalg.solve(L, v)
        both = xp.linalg.solve(L, xp.matrix_transpose(half))
        logs = xp.log(xp.linalg.eigvalsh(symmetric(both)))
        return numbers(xp.sqrt(xp.sum(logs * logs, axis=-1)))

    def shape_error(self, u: Array) -> str | None:
        problem = super().shape_error(u)
        if problem:
            return problem
        x = to_numpy(u)
        gap, size = np.abs(x - np.swapaxes(x, -1, -2)).max(), np.abs(x).max()
        if gap > 1e4 * np.finfo(dtype_name(u)).eps * size:
            return (
                f"`u0` is not symmetric: u0 - u0^T has entries up to {gap:.3g}; give "
                "(u0 + u0.swapaxes(-1, -2))/2."
            )
        low = float(np.linalg.eigvalsh(x).min())
        if low > 0.0:
            return None
        return (
            f"`u0` must be positive definite, but has the eigenvalue {low:.3g}; add a "
            "multiple of the identity."
        )


def symmetric(X: Array) -> Array:
    """(X + X^T)/2."""
    return 0.5 * (X + namespace(X).matrix_transpose(X))


def ratio(mu: Array) -> Array:
    """d / sinh d for all d = (mu_i - mu_j)/2, (.., n, n)."""
    xp = namespace(mu)
    d = xp.abs(0.5 * (mu[..., :, None] - mu[..., None, :]))
    # Far from 0 it is 2 d e^-d, where the sinh would overflow.
    safe = xp.where(d > 1e-4, d, xp.ones_like(d))
    far = 2.0 * safe * xp.exp(-safe) / -xp.expm1(-2.0 * safe)
    return xp.where(d > 1e-4, far, 1.0 - d * d / 6.0)


@dataclass(frozen=True, eq=False)
class PositiveFlow(EntriesChart, DrivenFlow):
    """Z' = the derivative of Z = log X along X' = -X sym(G) X, on entries of Z."""

    def _modes(self, z: Array) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of log X."""
        result: tuple[Array, Array] = namespace(z).linalg.eigh(
            symmetric(self.space.unflatten(z))
        )
        return result

    def encode(self, u: Array) -> Array:
        """Entries (.., n n) of log X."""
        xp = namespace(u)
        values, Q = xp.linalg.eigh(symmetric(u))
        return self.space.flatten(turned(Q, xp.log(values)[..., None, :] * identity(Q)))

    def decode(self, z: Array) -> Array:
        """The matrices (.., n, n)."""
        mu, Q = self._modes(z)
        return turned(Q, namespace(z).exp(mu)[..., None, :] * identity(Q))

    def velocity(self, t: Any, z: Array) -> Array:
        """-Q [sqrt(l_i l_j) d_ij/sinh d_ij (Q^T G Q)_ij] Q^T, d = log(l_i/l_j)/2."""
        xp = namespace(z)
        mu, Q = self._modes(z)
        x = self.space.flatten(turned(Q, xp.exp(mu)[..., None, :] * identity(Q)))
        F = symmetric(self.space.unflatten(self.force(t, x)))
        inner = xp.matmul(xp.matmul(xp.matrix_transpose(Q), F), Q)
        root = xp.exp(0.5 * mu)
        scale = root[..., :, None] * root[..., None, :] * ratio(mu)
        return self.space.flatten(turned(Q, scale * inner))

    def inner(self, z: Array, a: Array, b: Array) -> Any:
        """tr(X^-1 dX X^-1 dX) of two displacements of Z."""
        xp = namespace(z)
        mu, Q = self._modes(z)
        A, B = (
            xp.matmul(xp.matmul(xp.matrix_transpose(Q), self.space.unflatten(c)), Q)
            for c in (a, b)
        )
        return numbers(xp.sum(A * B / ratio(mu) ** 2, axis=(-2, -1)))

    @property
    def resolvent(self) -> Any:
        raise TypeError(
            f"no implicit step in {self.space!r} is known; explicit schemes keep the "
            "matrices positive definite"
        )

    @property
    def prox(self) -> Any:
        return self.resolvent


def identity(Q: Array) -> Array:
    """Unit matrices of the shape of Q."""
    return array_like(np.eye(Q.shape[-1]), Q)


def turned(Q: Array, D: Array) -> Array:
    """Q D Q^T, symmetric to rounding."""
    xp = namespace(Q)
    return symmetric(xp.matmul(xp.matmul(Q, D), xp.matrix_transpose(Q)))
