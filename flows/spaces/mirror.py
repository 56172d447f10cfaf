"""Mirror flows d/dt grad phi(x) = -grad V(x), stepped in z = grad phi(x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import namespace, numbers
from flows.spaces.base import check_device, potentials
from flows.spaces.bregman import bregman_step
from flows.spaces.costs import BregmanCost
from flows.spaces.euclidean_flows import total
from flows.spaces.mirror_maps import Burg, Entropy, MirrorMap, Simplex
from flows.spaces.p_norms import PNorm
from flows.spaces.points import DrivenFlow, PointFlow, PointSpace, checked_drift
from flows.symbolic import Constant, QuadraticField

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.flow import Flow, Memory

__all__ = ["Mirror", "MirrorMap", "is_linear"]

Array = Any
MAPS = (MirrorMap, Simplex, Entropy, Burg, PNorm)
ImplicitStep = Callable[[Any, Array, Any, "Memory"], tuple[Array, "Memory"]]


@dataclass(frozen=True)
class Mirror(PointSpace):
    """Points with the metric of a convex phi: d/dt grad phi(x) = -grad V(x).

    The Riemannian gradient flow x' = -Hess phi(x)^{-1} grad V(x), stepped in the chart
    z = grad phi(x): explicit Euler is mirror descent, implicit Euler and ``prox`` are
    the Bregman proximal step argmin_v V(v) + D(v, u)/h, and every state is inside the
    domain. A state (n,) is one point, (b, n) is b points.

    - ``Mirror.simplex()``: entropy on x > 0, sum x = 1; x_i' = -x_i (g_i - x.g), the
      Fisher-Rao flow, the replicator equation of the payoffs -g.
    - ``Mirror.positive()``: x log x - x on x > 0; x_i' = -x_i g_i.
    - ``Mirror.burg()``: -log x on x > 0; x_i' = -x_i^2 g_i.
    - ``Mirror.p_norm(p)``: |x|_p^2/2 on R^n.

    Of an entry that is smaller than the smallest normal number, that number is shown;
    the chart holds its logarithm and is not clipped.

    Parameters
    ----------
    map : MirrorMap
        A map of your own; the named ones are made by the methods above.
    device, dtype : str, optional
        None follows the state.

    Notes
    -----
    ``distance`` is geodesic for the named entropies: 2 arccos(sum sqrt(x y)) on the
    simplex, 2 |sqrt x - sqrt y| (positive), |log(x/y)| (Burg). Otherwise it is
    sqrt(<grad phi(x) - grad phi(y), x - y>), which agrees with it at small distances.
    The metric is sum dx^2/x; with sum dx^2/(4 x) time runs four times as fast.

    References
    ----------
    A. Nemirovski, D. Yudin, Problem Complexity and Method Efficiency in Optimization,
    Wiley (1983). F. Alvarez, J. Bolte, O. Brahic, Hessian Riemannian gradient flows in
    convex programming, SIAM J. Control Optim. 43 (2004),
    doi:10.1137/S0363012902419977.

    Examples
    --------
    >>> import flows as fl
    >>> flow = fl.Mirror.simplex().flow(fl.Potential("x + 2*y"))
    >>> sol = fl.solve(flow, np.array([0.5, 0.5]), (0, 1), fl.Euler(), dt=1.0)
    >>> bool(abs(sol.u[-1, 0] - 1 / (1 + np.exp(-1.0))) < 1e-15)
    True
    """

    map: Any = None
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)
        if not isinstance(self.map, MAPS):
            raise TypeError(
                "Write Mirror.simplex(), Mirror.positive(), Mirror.burg(), "
                "Mirror.p_norm(p), or Mirror(map) with a MirrorMap of your own; got "
                f"`map` = {self.map!r}."
            )

    @classmethod
    def simplex(cls, *, device: str | None = None, dtype: str | None = None) -> Mirror:
        """Probability vectors with the entropy: the Fisher-Rao metric sum dx^2/x."""
        return cls(Simplex(), device, dtype)

    @classmethod
    def positive(cls, *, device: str | None = None, dtype: str | None = None) -> Mirror:
        """Positive vectors with the entropy x log x - x, metric sum dx^2/x."""
        return cls(Entropy(), device, dtype)

    @classmethod
    def burg(cls, *, device: str | None = None, dtype: str | None = None) -> Mirror:
        """Positive vectors with Burg's entropy -log x, metric sum dx^2/x^2."""
        return cls(Burg(), device, dtype)

    @classmethod
    def p_norm(
        cls, p: float, *, device: str | None = None, dtype: str | None = None
    ) -> Mirror:
        """R^n with phi = |x|_p^2/2, p > 1; near 1 it favors sparse points."""
        return cls(PNorm(p), device, dtype)

    @property
    def cost(self) -> BregmanCost:
        """D(v, u)/h, of which explicit and implicit Euler are minimizing movements."""
        return BregmanCost(self.map)

    def __repr__(self) -> str:
        if isinstance(self.map, MirrorMap):
            return self.written(repr(self.map))
        options = {"device": self.device, "dtype": self.dtype}
        given = [f"{k}={v!r}" for k, v in options.items() if v is not None]
        name, _, inside = self.map.name[:-1].partition("(")
        return f"Mirror.{name}({', '.join([*filter(None, [inside]), *given])})"

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow d/dt grad phi(x) = -grad V(x) + drift(x).

        ``drift`` is a force (.., n) at points x (.., n): on the simplex the payoffs of
        a game, of any matrix. Energies known to be linear have ``exact``.

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        potentials(energy, self)
        checked_drift(drift)
        if drift is not None:
            return DriftMirrorFlow(self, energy, drift)
        if all(is_linear(term.function) for term in energy.terms):
            return LinearMirrorFlow(self, energy)
        return MirrorFlow(self, energy)

    def distance(self, u: Array, v: Array) -> Any:
        """Distance of two points (see Notes): one number, or (b,) for b points."""
        return numbers(self.map.distance(u, v))

    def divergence(self, v: Array, u: Array) -> Any:
        """Bregman divergence D(v, u): one number, or (b,) for b points."""
        return numbers(self.map.divergence(v, u))

    def shape_error(self, u: Array) -> str | None:
        """None for points inside the domain, else what is wrong."""
        problem = self.rank_error(u, "one point", "b points")
        return problem or self.map.problem(u)


def is_linear(function: Any) -> bool:
    """Whether V is known to be linear in x and not to depend on time."""
    if isinstance(function, Constant):
        return True
    if isinstance(function, QuadraticField):
        return not np.any(function.A)
    if function.time_dependent or not function.smooth:
        return False
    expr = function.expr(function.dimension or 2)
    if expr is None:
        return False
    symbols = sorted(expr.free_symbols, key=str)
    return all(expr.diff(a, b) == 0 for a in symbols for b in symbols)


@dataclass(frozen=True, eq=False)
class ChartFlow(PointFlow):
    """What the flows in z = grad phi(x) share: the chart and the metric."""

    def encode(self, u: Array) -> Array:
        """z = grad phi(u)."""
        return self.space.map.gradient(u)

    def decode(self, z: Array) -> Array:
        """u = grad phi*(z)."""
        return self.space.map.inverse(z)

    def inner(self, z: Array, a: Array, b: Array) -> Any:
        """a.Hess phi*(z) b: the metric's product of two displacements of z."""
        return numbers(namespace(z).sum(self.space.map.applied(z, a) * b, axis=-1))

    def admissible(self, z: Array) -> Any:
        """Whether z is in the chart: all negative for Burg's entropy."""
        with np.errstate(all="ignore"):
            inside = self.space.map.inside(z)
        return bool(inside) if inside.ndim == 0 else inside

    @property
    def bounds(self) -> Any:
        """What holds the admissible states, for messages: the space."""
        return self.space

    def advice(self, problem: str) -> str | None:
        """The chart ends where x grows beyond all bounds."""
        if problem != "outside":
            return None
        return (
            "The chart of a mirror map ends where x leaves every bounded set or the "
            "domain of phi: where the path goes there, end the run earlier, for "
            "instance by `until`, or take Mirror.positive(), whose chart has no end; "
            "check that V has a minimum."
        )


@dataclass(frozen=True, eq=False)
class MirrorFlow(ChartFlow):
    """z' = -grad V(grad phi*(z))."""

    def velocity(self, t: Any, z: Array) -> Array:
        """-grad V, on the simplex with the mean 0."""
        x = self.decode(z)
        return -self.space.map.center(total(self.functional, "gradient_at", t, x))

    def jacobian(self, t: Any, z: Array) -> Array:
        """-Hess V Hess phi*(z), (.., n, n)."""
        xp, map = namespace(z), self.space.map
        L = map.root(z)
        H = total(self.functional, "hessian_at", t, self.decode(z))
        J = xp.matmul(xp.matmul(H, L), xp.matrix_transpose(L))
        return -xp.matrix_transpose(map.center(xp.matrix_transpose(J)))

    def _require_smooth(self) -> None:
        for term in self.functional.terms:
            if term.prox is not None or not term.function.smooth:
                raise TypeError(
                    f"no implicit step of {term!r}, which may have kinks, is known in "
                    f"{self.space!r}"
                )

    @property
    def resolvent(self) -> ImplicitStep:
        """z with z + h grad V(t, grad phi*(z)) = w; TypeError for kinks."""
        self._require_smooth()
        return self._resolvent

    @property
    def prox(self) -> ImplicitStep:
        """argmin_v V(t, v) + D(v, u)/h, in the chart; TypeError for kinks.

        Of a V that is not convex it is a local minimum, below the value at u.
        """
        self._require_smooth()
        return self._prox

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        return self._solve(t, w, h, memory[0] if memory else w)

    def _prox(self, t: Any, z: Array, h: Any, memory: Memory) -> tuple[Array, Memory]:
        return self._solve(t, z, h, z, minimum=True)

    def _solve(
        self, t: Any, w: Array, h: Any, start: Array, minimum: bool = False
    ) -> tuple[Array, Memory]:
        # Trial steps may overflow before they are shortened.
        with np.errstate(all="ignore"):
            v = bregman_step(self.functional, self.space.map, t, w, h, start, minimum)
        return v, (v,)


@dataclass(frozen=True, eq=False)
class LinearMirrorFlow(MirrorFlow):
    """z' = -c: every scheme is exact at every step."""

    def exact(self, t: Any, z: Array, h: Any, rng: Any = None) -> Array:
        """z - h c."""
        return z + h * self.velocity(t, z)

    def _resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        v = w + h * self.velocity(t, w)
        return v, (v,)

    def _prox(self, t: Any, z: Array, h: Any, memory: Memory) -> tuple[Array, Memory]:
        return self._resolvent(t, z, h, memory)


@dataclass(frozen=True, eq=False)
class DriftMirrorFlow(ChartFlow, DrivenFlow):
    """z' = -grad V + drift at x = grad phi*(z)."""

    def velocity(self, t: Any, z: Array) -> Array:
        """-grad V + drift, on the simplex with the mean 0."""
        return self.space.map.center(self.force(t, self.decode(z)))
