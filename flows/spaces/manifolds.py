"""Gradient flows on the sphere and on the Stiefel manifold, by projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace, numbers
from flows.spaces.base import check_device, potentials
from flows.spaces.euclidean_flows import total
from flows.spaces.matrices import EntriesChart, SizedMatrices, driven, on_entries
from flows.spaces.points import DrivenFlow, PointSpace, checked_drift
from flows.symbolic import QuadraticField

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Flow

__all__ = ["Sphere", "Stiefel"]

Array = Any


def allowed(u: Array) -> float:
    """How far from the manifold a start may be; the first step brings it there."""
    return 1e-9 if dtype_name(u) == "float64" else 1e-5


@dataclass(frozen=True)
class Sphere(PointSpace):
    """Unit vectors of R^n with the length of arcs: x' = -P grad V(x), P = I - x x^T.

    A state (n,) is one unit vector, (b, n) is b of them, for any n. V is given on R^n;
    only its values near the sphere matter. Steps are taken in R^n with a smooth
    extension of the velocity, tangent to every sphere around 0, and brought back by
    x/|x|: explicit schemes keep their order and |x| = 1 to rounding.

    Parameters
    ----------
    device, dtype : str, optional
        None follows the state.

    Notes
    -----
    ``distance`` is the length of the arc, the angle between two vectors.

    References
    ----------
    P.-A. Absil, R. Mahony, R. Sepulchre, Optimization Algorithms on Matrix Manifolds,
    Princeton University Press (2008), doi:10.1515/9781400830244. E. Hairer, C. Lubich,
    G. Wanner, Geometric Numerical Integration, section IV.4, Springer (2006),
    doi:10.1007/3-540-30666-8.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.Sphere().flow(fl.Potential("-z"))
    >>> sol = fl.solve(flow, np.array([1.0, 0, 0]), (0, 2), fl.RK4(), dt=0.1)
    >>> bool(abs(sol.u[-1, 2] - np.tanh(2.0)) < 1e-6)
    True
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
        """The flow x' = P (drift(x) - grad V(x)).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        potentials(energy, self)
        checked_drift(drift)
        return SphereFlow(self, energy, drift)

    def distance(self, u: Array, v: Array) -> Any:
        """Angle between unit vectors: one number, or (b,) for b pairs."""
        xp = namespace(u)
        # The arccosine of a number near 1 would lose half of the digits.
        apart = xp.sqrt(xp.sum((u - v) ** 2, axis=-1))
        across = xp.sqrt(xp.sum((u + v) ** 2, axis=-1))
        return numbers(2.0 * xp.atan2(apart, across))

    def shape_error(self, u: Array) -> str | None:
        """None for unit vectors, else what is wrong and what to give."""
        problem = self.rank_error(u, "one unit vector", "b of them")
        if problem:
            return problem
        xp = namespace(u)
        off = xp.abs(xp.sqrt(xp.sum(u * u, axis=-1)) - 1.0)
        if float(xp.max(off)) <= allowed(u):
            return None
        return (
            f"`u0` is not on the unit sphere: its length is off by "
            f"{float(xp.max(off)):.3g}; give "
            "u0 / np.linalg.norm(u0, axis=-1, keepdims=True)."
        )


@dataclass(frozen=True, eq=False)
class TangentFlow(DrivenFlow):
    """What flows on embedded manifolds share; states z are vectors (.., n)."""

    def inner(self, z: Array, a: Array, b: Array) -> Any:
        """a.b: one number, or one for each member of a batch."""
        return numbers(namespace(a).sum(a * b, axis=-1))

    @property
    def resolvent(self) -> Any:
        raise TypeError(
            f"an implicit step in the space around {self.space!r} is no step on the "
            "manifold; explicit schemes keep their order there"
        )

    @property
    def prox(self) -> Any:
        raise TypeError(
            f"argmin V(v) + distance(u, v)^2/2h over {self.space!r} is a minimization "
            "on the manifold that may have several solutions"
        )


@dataclass(frozen=True, eq=False)
class SphereFlow(TangentFlow):
    """x' = -P grad V(x)."""

    def velocity(self, t: Any, z: Array) -> Array:
        """Force without its radial part; tangent to the sphere through z."""
        xp = namespace(z)
        f = self.force(t, z)
        radial = xp.sum(f * z, axis=-1, keepdims=True)
        return f - z * (radial / xp.sum(z * z, axis=-1, keepdims=True))

    def retract(self, z: Array) -> Array:
        """z/|z|."""
        xp = namespace(z)
        return z / xp.sqrt(xp.sum(z * z, axis=-1, keepdims=True))

    @property
    def exact(self) -> Any:
        """e^{-hA} x / |e^{-hA} x| for V = x.A x / 2; TypeError for other energies."""
        for term in self.functional.terms:
            f = term.function
            plain = isinstance(f, QuadraticField) and not np.any(f.center)
            if not plain or np.any(f.b) or self.drift is not None:
                raise TypeError(
                    "the flow map on the sphere is known for quadratic(A) alone, "
                    f"without center and b, not for {self.functional!r}"
                )
        return self._exact

    def _exact(self, t: Any, z: Array, h: Any, rng: Any = None) -> Array:
        xp = namespace(z)
        A = total(self.functional, "hessian_at", t, xp.zeros_like(z))
        values, vectors = xp.linalg.eigh(A)
        y = xp.matmul(xp.matrix_transpose(vectors), z[..., None])[..., 0]
        # Shifted by the least eigenvalue that takes part, no factor overflows.
        low = xp.min(
            xp.where(y != 0, values, xp.full_like(values, np.inf)),
            axis=-1,
            keepdims=True,
        )
        y = xp.where(y != 0, xp.exp(-h * (values - low)) * y, y)
        return self.retract(xp.matmul(vectors, y[..., None])[..., 0])


@dataclass(frozen=True, repr=False)
class Stiefel(SizedMatrices):
    """Matrices (n, k) with orthonormal columns, X^T X = I, and the Frobenius product.

    X' = -(G - X sym(X^T G)) with the gradient G of V at X and sym(S) = (S + S^T)/2.
    For k = 1 it is the sphere, for k = n the orthogonal group. A state (n, k) is one
    matrix, (b, n, k) is b of them. Callables and formulas are read as in ``Matrices``.
    Steps are taken in the space of all matrices and brought back to the nearest point,
    the polar factor: explicit schemes keep their order, X^T X = I to rounding.

    Parameters
    ----------
    n, k : int
        k <= n.
    device, dtype : str, optional
        None follows the state.

    Notes
    -----
    ``distance`` is the Frobenius norm of the difference, which agrees with the geodesic
    distance to second order; ``angles`` compares the spaces that the columns span.

    References
    ----------
    A. Edelman, T. A. Arias, S. T. Smith, The geometry of algorithms with orthogonality
    constraints, SIAM J. Matrix Anal. Appl. 20 (1998), doi:10.1137/S0895479895290954.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k > self.n:
            raise ValueError(
                f"{self.k} columns of R^{self.n} cannot be orthonormal; k <= n."
            )

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow X' = tangent part of drift(X) - grad V(X).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        push = driven(drift, self.shape)
        return StiefelFlow(self, on_entries(energy, self.shape, self), push)

    def angles(self, u: Array, v: Array) -> Array:
        """Principal angles (.., k) between the spaces of the columns, increasing."""
        xp = namespace(u)
        cosines = xp.linalg.svdvals(xp.matmul(xp.matrix_transpose(u), v))
        rest = v - xp.matmul(u, xp.matmul(xp.matrix_transpose(u), v))
        # Sines are accurate where cosines are not, near 0.
        sines = xp.flip(xp.linalg.svdvals(rest), axis=-1)
        return xp.atan2(sines, cosines)

    def shape_error(self, u: Array) -> str | None:
        problem = super().shape_error(u)
        if problem:
            return problem
        xp = namespace(u)
        gram = xp.matmul(xp.matrix_transpose(u), u)
        off = float(xp.max(xp.abs(gram - array_like(np.eye(self.k), u))))
        if off <= allowed(u):
            return None
        return (
            f"`u0` is not on {self!r}: X^T X - I has entries up to {off:.3g}; give "
            "np.linalg.qr(u0).Q, which has orthonormal columns."
        )


@dataclass(frozen=True, eq=False)
class StiefelFlow(EntriesChart, TangentFlow):
    """X' = -(G - X sym(X^T G)), on entries z (.., n k)."""

    def velocity(self, t: Any, z: Array) -> Array:
        """Tangent part of the force."""
        xp = namespace(z)
        X, F = self.decode(z), self.decode(self.force(t, z))
        S = xp.matmul(xp.matrix_transpose(X), F)
        S = 0.5 * (S + xp.matrix_transpose(S))
        return self.encode(F - xp.matmul(X, S))

    def retract(self, z: Array) -> Array:
        """The polar factor U V^T of X = U S V^T, the nearest point."""
        xp = namespace(z)
        U, _, Vh = xp.linalg.svd(self.decode(z), full_matrices=False)
        return self.encode(xp.matmul(U, Vh))
