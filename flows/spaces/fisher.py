"""Fisher metrics of Gaussian laws in closed form: natural gradients.

The Fisher metric at N(m, S) gives the displacement (dm, dS) the squared length

    dm.P dm + tr(P dS P dS)/2,    P = S^{-1},

in all parameterizations: the flow dz/dt = -F(z)^{-1} grad V(z) moves the same law, in
whatever coordinates z it is written. ``Euclidean(metric=...)`` takes these objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from flows.arrays import array_like, is_torch, namespace, to_numpy
from flows.energies import Potential
from flows.measures import Gaussian
from flows.spaces.divergences import ForwardKL, ReverseKL, target_moments
from flows.spaces.metrics import Metric

__all__ = [
    "GaussianFisher",
    "Law",
    "logdet_positive",
    "outer",
    "symmetric",
    "transpose",
]

Array = Any


class Law(NamedTuple):
    """Mean (.., d), covariance, precision (.., d, d) and log det of the covariance."""

    m: Array
    S: Array
    P: Array
    logdet: Array


def transpose(M: Array) -> Array:
    """Matrices (.., d, d) transposed."""
    return namespace(M).matrix_transpose(M)


def outer(a: Array, b: Array) -> Array:
    """a b^T for vectors (.., d)."""
    return a[..., :, None] * b[..., None, :]


def symmetric(M: Array) -> Array:
    """The symmetric part of matrices (.., d, d)."""
    return 0.5 * (M + transpose(M))


def logdet_positive(S: Array, name: str) -> Array:
    """log det of symmetric positive definite matrices.

    Raises
    ------
    numpy.linalg.LinAlgError
        For others, from NumPy and torch alike.
    """
    xp = namespace(S)
    try:
        L = xp.linalg.cholesky(S)
    except Exception as error:
        # NumPy's and torch's LinAlgError have no common base.
        if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
            raise
        raise np.linalg.LinAlgError(
            f"the {name} of the Gaussian is not positive definite; start from "
            "`metric.pack(mean, covariance)`, or take smaller steps"
        ) from error
    return 2.0 * xp.sum(xp.log(xp.linalg.diagonal(L)), axis=-1)


@dataclass(frozen=True)
class GaussianFisher(Metric):
    """Fisher metric of N(m, S) on R^d in coordinates z (.., d + d(d+1)/2).

    The first d coordinates are a vector, the others the lower triangle of a matrix, row
    by row: (0,0), (1,0), (1,1), (2,0), ... An entry off the diagonal of a symmetric
    matrix is one coordinate, so that a partial derivative by it counts both entries.

    Parameters
    ----------
    d : int
        Dimension of the law.
    """

    d: int

    constant: ClassVar[bool] = False
    matrix_name: ClassVar[str] = "covariance"

    def __post_init__(self) -> None:
        d = self.d
        if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 1:
            raise ValueError(f"`d` must be a positive integer, got {d!r}.")

    @property
    def count(self) -> int:
        """Number of coordinates, d + d(d+1)/2."""
        return self.d + self.d * (self.d + 1) // 2

    def check(self, n: int) -> None:
        """Raise ValueError unless ``n`` is the number of coordinates."""
        if n != self.count:
            raise ValueError(
                f"{self!r} has {self.count} coordinates, {self.d} of a vector and "
                f"{self.count - self.d} of the lower triangle of a matrix, but the "
                f"state has {n}; make it with `metric.pack(mean, covariance)`."
            )

    def pack(self, mean: Any, covariance: Any) -> Array:
        """Coordinates (.., count) of means (.., d) and covariances (.., d, d).

        Raises
        ------
        ValueError
            For shapes that do not fit.
        numpy.linalg.LinAlgError
            For a covariance that is not positive definite.
        """
        m = mean if is_torch(mean) else np.atleast_1d(np.asarray(mean, dtype=float))
        S = covariance if is_torch(covariance) else np.asarray(covariance, dtype=float)
        S = S if S.ndim else S[None, None]
        if tuple(S.shape) != (*m.shape, self.d) or m.shape[-1] != self.d:
            raise ValueError(
                f"`mean` has shape {tuple(m.shape)} and `covariance` {tuple(S.shape)}, "
                f"expected (.., {self.d}) and (.., {self.d}, {self.d})."
            )
        logdet_positive(S, "covariance")
        return self._pack(m, S)

    def unpack(self, z: Array) -> tuple[Array, Array]:
        """Means (.., d) and covariances (.., d, d) of coordinates (.., count)."""
        law = self.law(z)
        return law.m, law.S

    def start(self, law: Gaussian) -> Array:
        """Coordinates of a Gaussian measure, as NumPy float64."""
        return self.pack(law.center, law.covariance)

    def measure(self, z: Array) -> Gaussian:
        """The Gaussian measure at one state (count,)."""
        m, S = (to_numpy(a) for a in self.unpack(z))
        return Gaussian(m, symmetric(S))

    def forward_kl(self, target: Any) -> Potential:
        """KL(target | N(m, S)) as a function of the coordinates: maximum likelihood.

        Only the mean and covariance of the target matter. Its natural gradient flow
        relaxes E x and E x x^T linearly, as e^{-t}: see ``problems.forward_kl``.

        Parameters
        ----------
        target : Measure with mean and covariance, or (k, d) array of data

        Raises
        ------
        TypeError, ValueError
            For other targets, other dimensions, and singular covariances.
        """
        kl = ForwardKL(self, *target_moments(target, self.d))
        return Potential(kl, gradient=kl.gradient)

    def reverse_kl(self, target: Gaussian) -> Potential:
        """KL(N(m, S) | target) as a function of the coordinates: variational inference.

        Its natural gradient flow relaxes P and P m linearly, as e^{-t}, P = S^{-1}. It
        is the Fisher-Rao flow of KL, not the Wasserstein flow, whose variances relax
        linearly: see ``problems.reverse_kl``.

        Raises
        ------
        TypeError, ValueError
            For a target that is not Gaussian, other dimensions, singular covariances.
        """
        if not isinstance(target, Gaussian):
            raise TypeError(f"`target` must be a Gaussian, got {target!r}.")
        kl = ReverseKL(self, *target_moments(target, self.d))
        return Potential(kl, gradient=kl.gradient)

    def admissible(self, z: Array) -> Any:
        """Whether z is a law with a density: one bool, or (b,) for a batch."""
        xp = namespace(z)
        least = xp.linalg.eigvalsh(self._definite(z))[..., 0]
        return bool(least > 0.0) if least.ndim == 0 else least > 0.0

    def _definite(self, z: Array) -> Array:
        """The symmetric matrix that must be positive definite."""
        return self._parts(z)[1]

    def law(self, z: Array) -> Law:
        """Mean, covariance, precision and log det at coordinates z."""
        raise NotImplementedError

    def pull(self, z: Array, g: Array, G: Array) -> Array:
        """Partial derivatives by z from those by m and (symmetric) by S."""
        raise NotImplementedError

    def _pack(self, m: Array, S: Array) -> Array:
        raise NotImplementedError

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each matrix entry is among the coordinates, and the reverse."""
        rows, columns = np.tril_indices(self.d)
        place = np.zeros((self.d, self.d), dtype=int)
        place[rows, columns] = place[columns, rows] = np.arange(len(rows))
        return place.ravel(), rows * self.d + columns

    def _parts(self, z: Array) -> tuple[Array, Array]:
        """The vector and the symmetric matrix with the given lower triangle."""
        flat = take(z[..., self.d :], self._places[0])
        shape = (*z.shape[:-1], self.d, self.d)
        return z[..., : self.d], namespace(z).reshape(flat, shape)

    def _join(self, a: Array, M: Array) -> Array:
        """Coordinates of a vector and of the lower triangle of a matrix."""
        xp = namespace(a)
        flat = xp.reshape(M, (*M.shape[:-2], self.d * self.d))
        return xp.concat([a, take(flat, self._places[1])], axis=-1)

    def _gradient_parts(self, g: Array) -> tuple[Array, Array]:
        """Derivatives by the vector, and the symmetric matrix of those by entries."""
        a, G = self._parts(g)
        return a, G * array_like(0.5 * (1.0 + np.eye(self.d)), g)

    def _gradient_join(self, a: Array, G: Array) -> Array:
        """Inverse of ``_gradient_parts`` for symmetric G."""
        return self._join(a, G * array_like(2.0 - np.eye(self.d), G))

    def __repr__(self) -> str:
        name = type(self).__name__.removeprefix("Fisher").lower()
        return f"fisher_{name}({self.d})"


def take(a: Array, places: np.ndarray) -> Array:
    """a[..., places]."""
    if is_torch(a):
        import torch

        return a[..., torch.as_tensor(places, device=a.device)]
    return a[..., places]
