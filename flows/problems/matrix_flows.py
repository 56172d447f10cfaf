"""Flows of matrices in closed form: subspaces, sorting, orthogonality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.energies import Potential
from flows.measures.checks import real_array
from flows.problems.arguments import interval, square, time, vector
from flows.problems.base import Problem
from flows.problems.modes import Modes

__all__ = [
    "brockett",
    "matrix_start",
    "oja_subspace",
    "orthogonality",
    "toda",
]

Array = Any


def matrix_start(W0: Any, name: str = "W0") -> Array:
    """A matrix (n, k)."""
    W = real_array(W0, name)
    if W.ndim != 2 or W.size == 0:
        raise ValueError(f"`{name}` has shape {W.shape}, expected a matrix (n, k).")
    return W


@dataclass(frozen=True, eq=False)
class TraceForm:
    """-tr(X^T A X N)/2 of matrices (.., n, k), A and N symmetric."""

    A: Array
    N: Array

    def value(self, X: Array) -> Array:
        return 0.5 * namespace(X).sum(X * self.gradient(X), axis=(-2, -1))

    def gradient(self, X: Array) -> Array:
        xp = namespace(X)
        return -xp.matmul(xp.matmul(array_like(self.A, X), X), array_like(self.N, X))

    def hessian(self, X: Array) -> Array:
        xp = namespace(X)
        H = -self.A[:, None, :, None] * self.N[None, :, None, :]
        return array_like(H, X) + xp.zeros_like(X)[..., None, None]

    @property
    def energy(self) -> Potential:
        """As a term."""
        return Potential(self.value, gradient=self.gradient, hessian=self.hessian)


def orthonormal(X0: Any, name: str) -> Array:
    """A matrix (n, k) with orthonormal columns."""
    X = matrix_start(X0, name)
    off = np.abs(X.T @ X - np.eye(X.shape[1])).max()
    if off > 1e-9:
        raise ValueError(
            f"The columns of `{name}` must be orthonormal; X^T X - I has entries up to "
            f"{off:.3g}: give np.linalg.qr({name}).Q."
        )
    return X


@dataclass(frozen=True, eq=False)
class SubspacePath:
    """Orthonormal basis of the columns of e^{tA} X0."""

    A: Array
    X0: Array

    def __call__(self, t: float) -> Array:
        Q = orthogonal_iteration(self.A, self.X0, time(t))
        # The basis nearest to the start, so that it does not jump.
        U, _, Vh = np.linalg.svd(Q @ (Q.T @ self.X0), full_matrices=False)
        return U @ Vh


def orthogonal_iteration(A: Array, X: Array, t: float) -> Array:
    """Q of e^{tA} X = Q R with a positive diagonal of R.

    In steps over which e^{tA} stretches by e^4 at most: one factorization of the whole
    would lose the slow directions.
    """
    modes = Modes.of(A)
    spread = float(np.ptp(modes.values)) * abs(t)
    count = max(1, math.ceil(spread / 4.0))
    top = float(modes.values.max())
    growth = np.exp((modes.values - top) * (t / count))
    Q = X
    for _ in range(count):
        Q, R = np.linalg.qr(modes.back(modes.to(Q.T) * growth).T)
        Q = Q * np.where(np.diag(R) < 0, -1.0, 1.0)
    return Q


def oja_subspace(
    A: Any = (4.0, 3.0, 1.0, 0.0),
    X0: Any = None,
    *,
    k: int = 2,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """V(X) = -tr(X^T A X)/2 on orthonormal X (n, k): the columns span e^{tA} X0.

    X' = (I - X X^T) A X. ``exact`` is a basis of the space of the columns; compare
    spaces, by ``Stiefel(n, k).angles`` or by X X^T.

    Parameters
    ----------
    A : (n,) or (n, n) array
        Symmetric; a vector is a diagonal.
    X0 : (n, k) array, optional
        With orthonormal columns; by default from a fixed smooth pattern.
    k : int
        Columns of the default start.
    t : tuple of float

    Returns
    -------
    Problem
        Constants: ``minimum``, minus half the sum of the k largest eigenvalues.

    References
    ----------
    W.-Y. Yan, U. Helmke, J. B. Moore, Global analysis of Oja's flow for neural
    networks, IEEE Trans. Neural Netw. 5 (1994), doi:10.1109/72.317720.
    """
    raw = real_array(A, "A")
    n = raw.shape[-1] if raw.ndim else 1
    matrix = square(raw, n, "A")
    if X0 is None:
        waves = np.sin(1.0 + np.outer(np.arange(n), 1.0 + np.arange(k)))
        X0 = np.linalg.qr(waves).Q
    X = orthonormal(X0, "X0")
    if X.shape[0] != n:
        raise ValueError(f"`X0` has {X.shape[0]} rows, `A` is {n} x {n}.")
    values = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    return Problem(
        "oja_subspace",
        TraceForm(matrix, np.eye(X.shape[1])).energy,
        SubspacePath(matrix, X),
        interval(t),
        spaces=("Stiefel",),
        constants={"minimum": -0.5 * float(values[: X.shape[1]].sum())},
        reference="Yan, Helmke, Moore (1994), doi:10.1109/72.317720",
    )


def brockett(
    A: Any,
    N: Any = None,
    Q0: Any = None,
    *,
    t: tuple[float, float] = (0.0, 5.0),
) -> Problem:
    """V(Q) = -tr(Q^T A Q N)/2 on orthogonal Q: L = Q^T A Q flows to a sorted diagonal.

    Q' = Q [L, N]/2 and L' = [L, [L, N]]/2, the double bracket flow: the eigenvalues of
    L stay, and its diagonal ends with them in the order of N.

    Parameters
    ----------
    A : (n, n) array
        Symmetric.
    N : (n,) array, optional
        Distinct weights of the diagonal, by default n, n - 1, .., 1.
    Q0 : (n, n) array, optional
        Orthogonal; by default I, a critical point where A is diagonal.
    t : tuple of float

    Returns
    -------
    Problem
        ``exact`` is None. Constants: ``eigenvalues`` in the order in which the diagonal
        of L ends, and ``minimum``.

    References
    ----------
    R. W. Brockett, Dynamical systems that sort lists, diagonalize matrices, and solve
    linear programming problems, Linear Algebra Appl. 146 (1991),
    doi:10.1016/0024-3795(91)90021-N.
    """
    raw = matrix_start(A, "A")
    n = raw.shape[0]
    matrix = square(raw, n, "A")
    weights = vector(np.arange(n, 0.0, -1.0) if N is None else N, n, "N")
    if np.unique(weights).size < n:
        raise ValueError(f"The weights `N` must be distinct, got {weights.tolist()}.")
    values = np.empty(n)
    values[np.argsort(weights)] = np.linalg.eigvalsh(matrix)
    return Problem(
        "brockett",
        TraceForm(matrix, np.diag(weights)).energy,
        None,
        interval(t),
        start=orthonormal(np.eye(n) if Q0 is None else Q0, "Q0"),
        spaces=("Stiefel",),
        constants={
            "eigenvalues": values,
            "minimum": -0.5 * float(values @ weights),
        },
        reference="Brockett (1991), doi:10.1016/0024-3795(91)90021-N",
    )


def _toda_path(L0: Array, t: float) -> Array:
    return orthogonal_iteration(L0, np.eye(len(L0)), time(t))


def toda(
    diagonal: Any = (0.0, 1.0, -1.0, 2.0),
    off_diagonal: Any = (1.0, 0.5, 0.8),
    *,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """Toda flow of a Jacobi matrix L0: Q of the factorization e^{t L0} = Q R.

    The gradient flow of V(Q) = -tr(Q^T L0 Q N), N = diag(n, .., 1), on the orthogonal
    matrices from Q = I; L = Q^T L0 Q stays tridiagonal, L' = [L, A - A^T] with its
    strictly lower part A, and flows to its eigenvalues in decreasing order.
    At integer times it is the QR algorithm for e^{L0}.

    Parameters
    ----------
    diagonal : (n,) array
    off_diagonal : (n - 1,) array
        Not 0.
    t : tuple of float

    Returns
    -------
    Problem
        Constants: ``L``, and ``eigenvalues``, decreasing.

    References
    ----------
    P. Deift, T. Nanda, C. Tomei, Ordinary differential equations and the symmetric
    eigenvalue problem, SIAM J. Numer. Anal. 20 (1983), doi:10.1137/0720001.
    """
    a = np.atleast_1d(real_array(diagonal, "diagonal"))
    b = vector(off_diagonal, a.size - 1, "off_diagonal")
    if not (b != 0).all():
        raise ValueError("`off_diagonal` must not have zeros: the matrix would split.")
    L = np.diag(a) + np.diag(b, 1) + np.diag(b, -1)
    sorting = brockett(L, 2.0 * np.arange(a.size, 0.0, -1.0))
    return Problem(
        "toda",
        sorting.energy,
        partial(_toda_path, L),
        interval(t),
        spaces=("Stiefel",),
        constants={"L": L, **sorting.constants},
        reference="Deift, Nanda, Tomei (1983), doi:10.1137/0720001",
    )


@dataclass(frozen=True, eq=False)
class OrthogonalityForm:
    """|W^T W - I|_F^2 of matrices (.., n, k)."""

    def _excess(self, W: Array) -> Array:
        xp = namespace(W)
        gram = xp.matmul(xp.matrix_transpose(W), W)
        return gram - array_like(np.eye(W.shape[-1]), W)

    def value(self, W: Array) -> Array:
        return namespace(W).sum(self._excess(W) ** 2, axis=(-2, -1))

    def gradient(self, W: Array) -> Array:
        return 4.0 * namespace(W).matmul(W, self._excess(W))

    def hessian(self, W: Array) -> Array:
        xp = namespace(W)
        Wt = xp.matrix_transpose(W)
        rows, columns = (array_like(np.eye(m), W) for m in W.shape[-2:])
        M, G = self._excess(W), xp.matmul(W, Wt)
        H = rows[:, None, :, None] * M[..., None, :, None, :]
        H = H + G[..., :, None, :, None] * columns[None, :, None, :]
        return 4.0 * (H + W[..., :, None, None, :] * Wt[..., None, :, :, None])


@dataclass(frozen=True, eq=False)
class OrthogonalityPath:
    """U sigma(t) V^T with sigma^2 = 1/(1 + (sigma0^{-2} - 1) e^{-8t})."""

    W0: Array

    def _singular(self, t: float) -> tuple[Array, Array, Array]:
        U, s, Vh = np.linalg.svd(self.W0, full_matrices=False)
        decay = math.exp(-8.0 * time(t, 0.0))
        # Written so that a singular value 0 stays 0.
        return U, s / np.sqrt(s * s + (1.0 - s * s) * decay + (s == 0)), Vh

    def __call__(self, t: float) -> Array:
        U, s, Vh = self._singular(t)
        return (U * s) @ Vh

    def energy(self, t: float) -> float:
        """Sum of (sigma^2 - 1)^2, with the zero columns beyond n."""
        n, k = self.W0.shape
        s = self._singular(t)[1]
        return float(np.sum((s * s - 1.0) ** 2) + max(k - n, 0))


def orthogonality(
    W0: Any = ((1.5, 0.2), (0.3, 0.4), (-0.2, 0.1)),
    *,
    t: tuple[float, float] = (0.0, 0.5),
) -> Problem:
    """V(W) = |W^T W - I|_F^2 on all matrices: sigma^2 = 1/(1 + (sigma0^-2 - 1)e^{-8t}).

    W' = -4 W (W^T W - I): the singular vectors stay, and W flows to its polar factor;
    a singular value 0 stays 0.

    Parameters
    ----------
    W0 : (n, k) array
    t : tuple of float
        From t0 >= 0.

    References
    ----------
    A. Brock, J. Donahue, K. Simonyan, Large scale GAN training for high fidelity
    natural image synthesis (2019), arXiv:1809.11096, on this penalty.
    """
    W = matrix_start(W0)
    form, path = OrthogonalityForm(), OrthogonalityPath(W)
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    cut = max(W.shape) * np.finfo(float).eps * s[:1]
    return Problem(
        "orthogonality",
        Potential(form.value, gradient=form.gradient, hessian=form.hessian),
        path,
        interval(t, 0.0),
        limit=(U * (s > cut)) @ Vh,
        spaces=("Matrices",),
        exact_energy=path.energy,
        reference="Brock, Donahue, Simonyan (2019), arXiv:1809.11096",
    )
