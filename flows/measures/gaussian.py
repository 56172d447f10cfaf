"""Gaussian measures in any dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature, quadrature
from flows.measures.base import NORMAL_PANELS, Measure
from flows.measures.checks import (
    as_points,
    as_probabilities,
    generator,
    real_array,
    sample_size,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Gaussian"]

Array = Any
TENSOR_SIZES = {2: (12, 16, 24, 36, 54, 80, 120, 180), 3: (8, 12, 18, 27, 40, 60)}


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Gaussian(Measure):
    """Normal law N(m, S) on R^d.

    Parameters
    ----------
    mean : float or (d,) array
    std_or_cov : float, (d,) or (d, d) array
        A number or a vector holds *standard deviations*, a matrix is the *covariance*,
        symmetric and positive semidefinite. Singular ones are allowed: the law then
        has no density. A scalar mean with a vector or a matrix is the same in every
        coordinate.

    Raises
    ------
    ValueError
        For negative standard deviations, a matrix that is not symmetric or not
        positive semidefinite, and shapes that do not fit.

    Examples
    --------
    >>> Gaussian(0.0, 0.5).cov
    0.25
    >>> Gaussian([0, 1], [[2, 1], [1, 2]])
    Gaussian([0, 1], [[2, 1], [1, 2]])
    """

    center: Array
    covariance: Array
    root: Array
    """Factor (d, d) with root root^T = covariance, symmetric; its diagonal holds the
    standard deviations when these were given."""

    def __init__(self, mean: Any = 0.0, std_or_cov: Any = 1.0) -> None:
        m = real_array(mean, "mean")
        spread = real_array(std_or_cov, "std_or_cov")
        if m.ndim > 1 or spread.ndim > 2 or m.size == 0 or spread.size == 0:
            raise ValueError(
                f"`mean` has shape {m.shape} and `std_or_cov` {spread.shape}, expected "
                "a number or (d,), and a number, (d,) or (d, d)."
            )
        d = m.size if m.ndim else (spread.shape[0] if spread.ndim else 1)
        if spread.ndim and spread.shape != (d,) * spread.ndim:
            raise ValueError(
                f"`std_or_cov` has shape {spread.shape} but `mean` has {d} "
                f"coordinate(s); expected a number, ({d},) or ({d}, {d})."
            )
        if spread.ndim < 2:
            if (spread < 0).any():
                raise ValueError(
                    f"`std_or_cov` as standard deviations must not be negative, got "
                    f"{spread.min():g}; a covariance is given as a matrix."
                )
            std = np.broadcast_to(spread, (d,))
            root, covariance = np.diag(std), np.diag(std * std)
        else:
            covariance = _checked_covariance(spread)
            root = _symmetric_root(covariance)
        center = np.array(np.broadcast_to(m, (d,)))
        for name, array in zip(
            ("center", "covariance", "root"), (center, covariance, root), strict=True
        ):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def d(self) -> int:
        return int(self.center.size)

    @property
    def std(self) -> Any:
        """Standard deviations of the coordinates: a number for d = 1, else (d,)."""
        s = self._axis_std()
        return float(s[0]) if self.d == 1 else s

    def _axis_std(self) -> Array:
        # The root keeps given standard deviations exactly where squares round.
        return np.sqrt(np.sum(self.root**2, axis=1)) if self.d > 1 else self.root[0]

    @property
    def is_singular(self) -> bool:
        """Whether the covariance has a kernel, so that there is no density."""
        return not bool((self._spectrum()[0] > 0).all())

    @property
    def has_density(self) -> bool:
        return not self.is_singular

    def moments(self) -> tuple[Array, Array]:
        return self.center, self.covariance

    def support_box(self) -> Array:
        reach = np.where(self._axis_std() > 0, np.inf, 0.0)
        return np.stack([self.center - reach, self.center + reach], axis=1)

    def box(self, mass: float) -> Array:
        from scipy.special import ndtri

        s = self._axis_std()
        tail = 0.5 * (1.0 - mass) / self.d
        reach = np.where(s > 0, s, 0.0) * -float(ndtri(max(tail, 1e-300)))
        return np.stack([self.center - reach, self.center + reach], axis=1)

    def whitening(self) -> tuple[Array, float]:
        """Matrix A with A S A^T = 1, and log det S."""
        values, vectors = self._spectrum()
        if not (values > 0).all():
            raise self._lacks("density", SINGULAR_REMEDY)
        return (vectors / values).T, 2.0 * float(np.sum(np.log(values)))

    def _spectrum(self) -> tuple[Array, Array]:
        """Eigenvalues (increasing, exact zeros) and eigenvectors of the root."""
        if self.factors() is not None:
            s = np.diag(self.root)
            order = np.argsort(s)
            return s[order], np.eye(self.d)[:, order]
        values, vectors = np.linalg.eigh(self.root)
        cut = 8 * self.d * np.finfo(float).eps * values[-1]
        return np.where(values > cut, values, 0.0), vectors

    def log_pdf(self, x: Array) -> Array:
        A, log_det = self.whitening()
        points = as_points(x, self.d)
        if self.d == 1:
            square = ((points - self.center[0]) * A[0, 0]) ** 2
        else:
            square = np.sum(((points - self.center) @ A.T) ** 2, axis=-1)
        return -0.5 * (square + log_det + self.d * np.log(2.0 * np.pi))

    def cdf(self, x: Array) -> Array:
        return self._tail(x, 1.0)

    def survival(self, x: Array) -> Array:
        return self._tail(x, -1.0)

    def _tail(self, x: Array, sign: float) -> Array:
        from scipy.special import ndtr

        self._need_line("cdf")
        points, s = as_points(x, 1), self.std
        if s == 0.0:
            below = points >= self.center[0]
            return (below if sign > 0 else ~below).astype(float)
        return ndtr(sign * (points - self.center[0]) / s)

    def quantile(self, s: Array) -> Array:
        from scipy.special import ndtri

        self._need_line("quantile function")
        return self.from_normal(ndtri(as_probabilities(s)))

    def upper_quantile(self, q: Array) -> Array:
        from scipy.special import ndtri

        self._need_line("quantile function")
        return self.from_normal(-ndtri(as_probabilities(q, "q")))

    def from_normal(self, z: Array) -> Array:
        s = self.std
        return self.center[0] + (s * z if s > 0 else np.zeros_like(z))

    def sample(self, n: int, rng: Any) -> Array:
        z = generator(rng).standard_normal((sample_size(n), self.d))
        return self.center + z @ self.root.T

    def factors(self) -> tuple[Measure, ...] | None:
        if np.count_nonzero(self.root - np.diag(np.diag(self.root))):
            return None
        if self.d == 1:
            return (self,)
        pairs = zip(self.center, np.diag(self.root), strict=True)
        return tuple(Gaussian(float(m), float(s)) for m, s in pairs)

    def potential(self) -> Any:
        """Quadratic -log pdf with its constant, a field of ``flows.symbolic``."""
        from flows.measures.potentials import gaussian_potential

        return gaussian_potential(self)

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X); see ``Measure.expect``.

        Adaptive for d = 1; tensor Gauss-Hermite rules for d = 2 (cells refined at
        kinks) and d = 3; for d >= 4 a rule that is exact for polynomials of degree 5
        and refuses other functions.
        """
        if self.d == 1:
            return super().expect(f)
        if self.d <= 3:
            return cubature.converged_expectation(
                self._hermite,
                f,
                TENSOR_SIZES[self.d],
                (lambda: self._expect_rough(f)) if self.d == 2 else None,
            )
        return cubature.by_symmetry(
            lambda y: quadrature.evaluate(f, self.center + y @ self.root.T),
            *cubature.symmetric_cubature(self.d, 1.0, 3.0, 1.0),
            self,
        )

    def _expect_rough(self, f: Callable[[Array], Array]) -> float:
        """Expectation in the plane of a function with kinks."""

        def weighted(z: Array) -> Array:
            y = quadrature.evaluate(f, self.center + z @ self.root.T)
            return y * np.exp(-0.5 * np.sum(z * z, axis=-1)) / (2.0 * np.pi)

        cuts = NORMAL_PANELS[np.abs(NORMAL_PANELS) <= 13.0]
        return cubature.plane(weighted, cuts, cuts)

    def _hermite(self, n: int) -> tuple[Array, Array]:
        nodes, weights = np.polynomial.hermite_e.hermegauss(n)
        y, w = cubature.tensor([nodes] * self.d, [weights] * self.d)
        return self.center + y @ self.root.T, w / np.sqrt(2.0 * np.pi) ** self.d

    def expect_difference(self, g: Callable[[Array], Array]) -> float:
        """Expectation of g(X - Y): X - Y is N(0, 2 S)."""
        difference = Gaussian(np.zeros(self.d), 2.0 * self.covariance)
        return difference.expect(g)

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf) in polar coordinates of the whitened space."""
        from scipy.special import gammaln

        _, log_det = self.whitening()
        d = self.d
        log_peak = -0.5 * (d * np.log(2.0 * np.pi) + log_det)
        log_sphere = np.log(2.0) + 0.5 * d * np.log(np.pi) - gammaln(0.5 * d)

        def shell(r: Array, _: Array) -> Array:
            p = np.exp(log_peak - 0.5 * r * r)
            return np.exp(log_sphere + 0.5 * log_det) * r ** (d - 1) * np.asarray(g(p))

        reach = np.sqrt(2.0 * (log_peak + 700.0))
        marks = np.array([0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 30])
        edges = np.append(marks[marks < reach], reach)
        return quadrature.adaptive(shell, edges)

    def entropy(self) -> float:
        """Integral of pdf log pdf = -(d/2)(1 + log 2 pi) - log(det S)/2."""
        _, log_det = self.whitening()
        return float(-0.5 * (self.d * (1.0 + np.log(2.0 * np.pi)) + log_det))

    def _resolution(self) -> float:
        return float(self._spectrum()[0][0])

    def __repr__(self) -> str:
        if self.factors() is None:
            spread = short(self.covariance)
        else:
            s = self._axis_std()
            spread = short(s[0] if (s == s[0]).all() else s)
        center = self.center if self.d > 1 else self.center[0]
        return f"Gaussian({short(center)}, {spread})"


SINGULAR_REMEDY = (
    "the covariance is singular; use its samples or add a small multiple of the "
    "identity"
)


def _checked_covariance(S: Array) -> Array:
    """Symmetrized covariance; ValueError when it is not symmetric or not PSD."""
    size = float(np.max(np.abs(S)))
    gap = np.abs(S - S.T)
    if gap.max() > 1e-10 * size:
        i, j = (int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
        raise ValueError(
            f"The covariance must be symmetric; entries ({i}, {j}) and ({j}, {i}) are "
            f"{S[i, j]:g} and {S[j, i]:g}."
        )
    S = 0.5 * (S + S.T)
    lowest = float(np.linalg.eigvalsh(S)[0])
    if lowest < -1e-10 * size:
        raise ValueError(
            f"The covariance must be positive semidefinite; its smallest eigenvalue "
            f"is {lowest:g}."
        )
    return S


def _symmetric_root(S: Array) -> Array:
    """Symmetric square root; eigenvalues within rounding of 0 count as 0.

    Without that cut a kernel of S would come back as a standard deviation of 1e-8.
    """
    if not np.count_nonzero(S - np.diag(np.diag(S))):
        return np.diag(np.sqrt(np.maximum(np.diag(S), 0.0)))
    values, vectors = np.linalg.eigh(S)
    cut = S.shape[0] * np.finfo(float).eps * values[-1]
    values = np.where(values > cut, values, 0.0)
    root = (vectors * np.sqrt(values)) @ vectors.T
    return 0.5 * (root + root.T)
