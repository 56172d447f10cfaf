"""Second-order flows of vectors: the heavy ball and Nesterov's equation."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.arrays import array_like, is_array, zeros_like
from flows.spaces.base import admit_array, check_device
from flows.spaces.euclidean import Euclidean
from flows.spaces.inertial_flows import (
    HeavyBallFlow,
    NesterovFlow,
    QuadraticHeavyBallFlow,
)
from flows.spaces.phase import join, split
from flows.spaces.points import PointSpace, law_of, points_of
from flows.symbolic import Constant, QuadraticField

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Flow

__all__ = ["HeavyBall", "Nesterov"]

Array = Any


class Inertial(PointSpace):
    """What the spaces of positions and velocities share.

    A state (2n,) is a position in R^n followed by its velocity; (b, 2n) is b of them.
    """

    # n of the energy where it has one: positions alone are then told from states.
    coordinates: int | None

    @property
    def line(self) -> Euclidean:
        """The space of the positions."""
        return Euclidean(device=self.device, dtype=self.dtype)

    def split(self, u: Array) -> tuple[Array, Array]:
        """Positions (.., n) and velocities (.., n) of states (.., 2n)."""
        return split(u)

    def join(self, x: Array, v: Array) -> Array:
        """States (.., 2n) of positions and velocities (.., n)."""
        return join(x, v)

    def start(self, x0: Any, v0: Any = None) -> Array:
        """State (.., 2n) at positions ``x0`` (.., n), at rest unless ``v0`` is given.

        Raises
        ------
        TypeError, ValueError
            For data that are no positions, and velocities of another shape.
        """
        x = self.line.admit(x0)
        if v0 is None:
            return join(x, zeros_like(x))
        v = admit_array(v0, "v0")
        if tuple(v.shape) not in (tuple(x.shape), tuple(x.shape[-1:])):
            raise ValueError(
                f"`v0` has shape {tuple(v.shape)}, expected {tuple(x.shape)} as `x0`."
            )
        return join(x, array_like(v, x) + zeros_like(x))

    def project(self, measure: Any, rng: Any = None) -> Array:
        """A Dirac measure, or the points of an empirical one, at rest."""
        return self.start(self.create(points_of(measure, self)))

    def measure(self, u: Array) -> Any:
        """Dirac measure at the position, or the empirical measure of (b, n)."""
        return law_of(split(u)[0])

    def distance(self, u: Array, v: Array) -> Any:
        """Distance of positions and velocities together: a number, or (b,)."""
        return self.line.distance(u, v)

    def points(self, u: Array) -> Array:
        """Where the potential is evaluated: the positions."""
        return split(u)[0]

    def shape_error(self, u: Array) -> str | None:
        """None, or the sentence that says what a state is here."""
        n = self.coordinates
        last = u.shape[-1] if u.ndim else 1
        if u.ndim in (1, 2) and (last == 2 * n if n else last % 2 == 0):
            return None
        shape = "(2n,) or (b, 2n)" if n is None else f"({2 * n},) or (b, {2 * n})"
        alone = f" The energy has {n} coordinate(s)." if n else ""
        return (
            f"`u0` has shape {tuple(u.shape)}; {type(self).__name__} takes {shape}, "
            f"positions followed by velocities.{alone} For points at rest give "
            "`space.start(x0)`."
        )

    def knowing(self, energy: Energy) -> Any:
        """This space with the number of coordinates that the energy names."""
        sizes = {term.function.dimension for term in energy.terms} - {None}
        space = copy(self)
        object.__setattr__(space, "coordinates", sizes.pop() if sizes else None)
        return space


@dataclass(frozen=True)
class HeavyBall(Inertial):
    """Positions and velocities with constant friction: x'' + friction x' = -grad V(x).

    A state (2n,) is a position in R^n followed by its velocity, (b, 2n) is b of them:
    ``space.start(x0)`` makes it from positions at rest. V need not fall along a path;
    ``flow.lyapunov`` does. For a mass m, divide friction and V by m.

    Parameters
    ----------
    friction : float
        At least 0. For a mu-strongly convex V the rate is best at 2 sqrt(mu).
    device, dtype : str, optional
        None follows the state.

    Raises
    ------
    ValueError
        For a friction that is negative or not finite.

    References
    ----------
    B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR
    Comput. Math. Math. Phys. 4 (1964) 1-17, doi:10.1016/0041-5553(64)90137-5.
    H. Attouch, X. Goudou, P. Redont, The heavy ball with friction method, Commun.
    Contemp. Math. 2 (2000) 1-34, doi:10.1142/S0219199700000025.

    Examples
    --------
    >>> import flows as fl
    >>> space = fl.HeavyBall(friction=2.0)
    >>> space.flow(fl.quadratic(4.0)).velocity(0.0, space.start([1.0], [3.0]))
    array([  3., -10.])
    """

    friction: float = 1.0
    device: str | None = None
    dtype: str | None = None
    coordinates: int | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)
        value = finite_number(self.friction, "friction")
        if value < 0.0:
            raise ValueError(
                f"`friction` must be at least 0, got {value:g}: a negative one blows "
                "the velocities up."
            )
        object.__setattr__(self, "friction", value)

    def __repr__(self) -> str:
        return self.written(f"{self.friction:g}")

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow x' = v, v' = -friction v - grad V(x) + drift(x).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        base = self.line.flow(energy, drift)
        known = (QuadraticField, Constant)
        if drift is None and all(isinstance(t.function, known) for t in energy.terms):
            return QuadraticHeavyBallFlow(self.knowing(energy), base)
        return HeavyBallFlow(self.knowing(energy), base)


@dataclass(frozen=True)
class Nesterov(Inertial):
    """Positions and velocities with vanishing friction: x'' + (r/t) x' = -grad V(x).

    The limit of Nesterov's accelerated method with step s at t = k sqrt(s) [1]_.
    States are those of ``HeavyBall``. Runs may start at t = 0, at rest: there
    x'' = -grad V/(1 + r). For convex V and r >= 3

        V(x(t)) - V* <= (r - 1)^2 |x(0) - x*|^2 / (2 t^2),

    though V itself ripples; ``flow.lyapunov`` falls.

    Parameters
    ----------
    r : float
        Positive.
    device, dtype : str, optional
        None follows the state.

    Raises
    ------
    ValueError
        For r <= 0.

    Notes
    -----
    At t = 0 the equation is singular though its solution is smooth: the first of equal
    steps h from t = 0 makes an error of h^3 in the velocity, which the damping reduces
    like t^-r, and one of h^6 in the position. A Runge-Kutta scheme of order p then has
    the observed order min(p, 3 + r, 6). Steps that grow from 0 restore p: those of
    ``Adaptive()``, or ``save_at=T * (np.arange(n + 1) / n)**2`` and a large ``dt``.

    References
    ----------
    .. [1] W. Su, S. Boyd, E. J. Candes, A differential equation for modeling Nesterov's
       accelerated gradient method, J. Mach. Learn. Res. 17 (2016) 1-43,
       arXiv:1503.01243.

    Examples
    --------
    >>> import flows as fl
    >>> space = fl.Nesterov()
    >>> space.flow(fl.quadratic(8.0)).velocity(0.0, space.start([1.0]))
    array([ 0., -2.])
    """

    r: float = 3.0
    device: str | None = None
    dtype: str | None = None
    coordinates: int | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)
        value = finite_number(self.r, "r")
        if value <= 0.0:
            raise ValueError(f"`r` must be positive, got {value:g}.")
        object.__setattr__(self, "r", value)

    def __repr__(self) -> str:
        return self.written(f"{self.r:g}")

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow x' = v, v' = -(r/t) v - grad V(x) + drift(x).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        base = self.line.flow(energy, drift)
        return NesterovFlow(self.knowing(energy), base)


def finite_number(value: Any, name: str) -> float:
    """A finite float, or an error that names the argument."""
    if isinstance(value, (bool, str)) or (is_array(value) and value.ndim > 0):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a number, got {value!r}.") from error
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite, got {number}.")
    return number
