"""Steepest descent in a norm: x' = -|g|_* d(g), g the gradient of V.

``fl.norms.l1(), l2(), linf(), spectral(n, k), metric(M)`` are the norms; their dual
norms and directions are in the table of costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.arrays import numbers
from flows.spaces.base import check_device, potentials
from flows.spaces.costs import L1, L2, Linf, MetricNorm, Norm, NormCost, Spectral
from flows.spaces.euclidean_flows import total
from flows.spaces.matrices import EntriesChart, MatrixSpace, on_entries
from flows.spaces.points import PointFlow, PointSpace, law_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Flow

__all__ = ["SteepestDescent", "l1", "l2", "linf", "metric", "spectral"]

Array = Any


def l1() -> Norm:
    """|d|_1: the coordinate of the largest slope moves; ties share the step evenly."""
    return L1()


def l2() -> Norm:
    """|d|_2: the direction is the normalized gradient."""
    return L2()


def linf() -> Norm:
    """max_i |d_i|: the direction is the sign of the gradient."""
    return Linf()


def spectral(n: int, k: int) -> Norm:
    """Largest singular value of matrices (n, k): U V^T of the gradient U S V^T.

    References
    ----------
    J. Bernstein, L. Newhouse, Old optimizer, new norm: an anthology (2024),
    arXiv:2409.20325.
    """
    return Spectral(n, k)


def metric(M: Any) -> Norm:
    """sqrt(d.M d) with M a positive number, vector (n,) or definite matrix (n, n)."""
    return MetricNorm(M)


@dataclass(frozen=True)
class SteepestDescent(MatrixSpace, PointSpace):
    """R^n with a norm: x' = -|g|_* d(g), where <g, d(g)> = |g|_* and norm(d(g)) = 1.

    The curve of maximal slope: dV/dt = -|g|_*^2. With ``unit_speed`` it is
    x' = -d(g), which moves at speed 1 along the same path, dV/dt = -|g|_*, and stops
    after a finite time where V has a sharp descent; explicit steps of length h then
    oscillate by h at most. At g = 0 the velocity is 0.

    Where directions jump (signs, ties of the largest slope), the flow slides along the
    jump. Fixed explicit steps follow it to within h; adaptive ones shrink to nothing.

    A state (n,) is one point, (b, n) is b points; with ``norms.spectral(n, k)`` states
    are matrices (n, k) or (b, n, k), and callables get matrices, as in ``Matrices``.

    Parameters
    ----------
    norm : Norm
        ``fl.norms.l1(), l2(), linf(), spectral(n, k), metric(M)``.
    unit_speed : bool
    device, dtype : str, optional
        None follows the state.

    Notes
    -----
    ``distance`` is the norm of the difference. ``l2()`` and ``metric(M)`` without
    ``unit_speed`` are gradient flows in an inner product; ``Euclidean`` offers implicit
    schemes for these.

    References
    ----------
    S. Boyd, L. Vandenberghe, Convex Optimization, section 9.4, Cambridge University
    Press (2004), doi:10.1017/CBO9780511804441.

    Examples
    --------
    >>> import numpy as np
    >>> import flows as fl
    >>> space = fl.SteepestDescent(fl.norms.linf(), unit_speed=True)
    >>> space.flow(fl.quadratic([1.0, 9.0])).velocity(0.0, np.array([2.0, -1.0]))
    array([-1.,  1.])
    """

    norm: Norm
    unit_speed: bool = False
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)
        if not isinstance(self.norm, Norm):
            raise TypeError(
                "`norm` must be fl.norms.l1(), l2(), linf(), spectral(n, k) or "
                f"metric(M), got {self.norm!r}."
            )
        if not isinstance(self.unit_speed, bool):
            raise TypeError(
                f"`unit_speed` must be True or False, got {self.unit_speed!r}."
            )

    def __repr__(self) -> str:
        fast = ["unit_speed=True"] if self.unit_speed else []
        return self.written(f"norms.{self.norm!r}", *fast)

    @property
    def cost(self) -> NormCost:
        """norm(v - u)^2/2h or a ball of radius h: each step minimizes F + cost."""
        return NormCost(self.norm, self.unit_speed)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        if self.norm.shape is None:
            raise AttributeError("states are vectors")
        return self.norm.shape

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow of steepest descent.

        Raises
        ------
        TypeError
            For a term that is not a Potential, and for a drift, which has no place in
            a norm without inner product.
        """
        if drift is not None:
            raise TypeError(
                "SteepestDescent takes no drift; a force belongs to Euclidean()."
            )
        if self.norm.shape is not None:
            entries = on_entries(energy, self.norm.shape, self)
            return SteepestMatrixFlow(self, entries, self.cost)
        potentials(energy, self)
        return SteepestFlow(self, energy, self.cost)

    def project(self, measure: Any, rng: Any = None) -> Array:
        """The state of a Dirac measure, or the batch of an empirical one."""
        kind = PointSpace if self.norm.shape is None else MatrixSpace
        return kind.project(self, measure, rng)

    def measure(self, u: Array) -> Any:
        """Dirac measure at one state, or the empirical measure of a batch."""
        return law_of(self.points(u))

    def distance(self, u: Array, v: Array) -> Any:
        """norm(u - v): one number, or (b,) for a batch."""
        return numbers(self.norm.value(self.points(u - v)))

    def points(self, u: Array) -> Array:
        """Where the potential is evaluated: the coordinates."""
        return u if self.norm.shape is None else self.flatten(u)

    def shape_error(self, u: Array) -> str | None:
        """None for states that fit the norm, else what is wrong."""
        if self.norm.shape is not None:
            return super().shape_error(u)
        problem = self.rank_error(u, "one point", "b points")
        if problem:
            return problem
        wrong = self.norm.size_error(u.shape[-1])
        return wrong and f"`u0` does not fit {self!r}: {wrong}."


@dataclass(frozen=True, eq=False)
class SteepestFlow(PointFlow):
    """x' = -dpsi*(grad V(x)), psi half the squared norm, or its unit ball."""

    cost: NormCost = field(repr=False)

    @property
    def is_gradient(self) -> bool:  # type: ignore[override]
        return self.cost.norm.hilbert and not self.cost.unit_speed

    def velocity(self, t: Any, z: Array) -> Array:
        """-|g|_* d(g), or -d(g) at unit speed."""
        return self.cost.velocity(total(self.functional, "gradient_at", t, z))

    def dissipation(self, t: Any, z: Array) -> Any:
        """-dV/dt: |g|_*^2, or |g|_* at unit speed."""
        g = total(self.functional, "gradient_at", t, z)
        return numbers(self.cost.dissipation(g))

    @property
    def inner(self) -> Any:
        """a.M b; TypeError for a norm that comes from no inner product."""
        if not self.cost.norm.hilbert:
            raise TypeError(f"the norm {self.cost.norm!r} comes from no inner product")
        return self._inner

    def _inner(self, z: Array, a: Array, b: Array) -> Any:
        size = self.cost.norm.value
        # Polarization: the norm knows its inner product.
        return numbers(0.25 * (size(a + b) ** 2 - size(a - b) ** 2))

    @property
    def resolvent(self) -> Any:
        raise TypeError(
            f"no implicit step in {self.space!r} is known; Euclidean() and "
            "Euclidean(metric=...) have them for l2() and metric(M)"
        )

    @property
    def prox(self) -> Any:
        return self.resolvent

    def advice(self, problem: str) -> str | None:
        """Adaptive steps shrink to nothing where the directions jump."""
        if problem not in ("kink", "max_steps") or self.is_gradient:
            return None
        return (
            f"The directions of {self.space!r} jump where slopes change sign or tie, "
            "and adaptive steps shrink to nothing there: give a number dt, for "
            "instance fl.Euler(), dt=0.01, which follows the flow to within dt."
        )

    @property
    def default(self) -> Any:
        """Dormand-Prince where the directions are smooth; TypeError elsewhere."""
        if not self.is_gradient:
            raise TypeError(
                f"{self.space!r} has no default scheme, because its directions jump: "
                "give one and a number dt, for instance fl.Euler(), dt=0.01."
            )
        return super().default


@dataclass(frozen=True, eq=False)
class SteepestMatrixFlow(EntriesChart, SteepestFlow):
    """Steepest descent of matrices, on their entries z (.., n k)."""
