"""Explicit Runge-Kutta schemes: a tableau and one step function for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.arrays import namespace
from flows.flow import Step
from flows.schemes import tableaus
from flows.schemes.base import Scheme

if TYPE_CHECKING:
    from flows.flow import Flow, Memory
    from flows.schemes.tableaus import Row, Tableau

__all__ = [
    "DOP853",
    "RK4",
    "BogackiShampine",
    "DormandPrince",
    "Euler",
    "Heun",
    "RungeKutta",
    "Tsit5",
]

Array = Any


def combine(row: Row, h: Any, slopes: list[Array]) -> Array:
    """h times the sum of a_j k_j over the nonzero coefficients."""
    j, a = row[0]
    total = (h * a) * slopes[j]
    for j, a in row[1:]:
        total = total + (h * a) * slopes[j]
    return total


@dataclass(frozen=True)
class RungeKutta(Scheme):
    """u' = u + h sum_i b_i k_i with k_i = velocity(t + c_i h, u + h sum_j a_ij k_j).

    Schemes whose last stage is the slope at the new state (FSAL) keep it in ``memory``
    as the first stage of the next step.
    """

    tableau: ClassVar[Tableau]
    needs: ClassVar[tuple[str, ...]] = ("velocity",)

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        table, velocity = self.tableau, flow.velocity
        slopes = [memory[0] if memory else velocity(t, u)]
        v = u
        for c, row in table.stages:
            v = u + combine(row, h, slopes)
            slopes.append(velocity(t + c * h, v))
        if not table.fsal:
            v = u + combine(table.weights, h, slopes)
        calls = len(slopes) - (1 if memory else 0)
        return Step(
            v,
            self.estimate(h, slopes),
            (slopes[-1],) if table.fsal else (),
            {"velocity_calls": calls},
        )

    def estimate(self, h: Any, slopes: list[Array]) -> Array | None:
        """Difference to the embedded method, None where there is none."""
        error = self.tableau.error
        return combine(error, h, slopes) if error else None


@dataclass(frozen=True)
class Euler(RungeKutta):
    """u' = u + h velocity(t, u): explicit Euler, gradient descent with step h.

    Order 1; real stability interval 2; no error estimate; needs ``velocity``.
    """

    tableau: ClassVar[Tableau] = tableaus.EULER
    order: ClassVar[int] = 1
    stability: ClassVar[float] = 2.0


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Explicit trapezoidal rule with explicit Euler embedded.

    Order 2, error estimate O(h^2); real stability interval 2; needs ``velocity``.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I,
    section II.1, doi:10.1007/978-3-540-78862-1.
    """

    tableau: ClassVar[Tableau] = tableaus.HEUN
    order: ClassVar[int] = 2
    stability: ClassVar[float] = 2.0
    error_order: ClassVar[int | None] = 2


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical Runge-Kutta scheme.

    Order 4; real stability interval 2.785; no error estimate; needs ``velocity``.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I,
    section II.1, doi:10.1007/978-3-540-78862-1.
    """

    tableau: ClassVar[Tableau] = tableaus.RUNGE_KUTTA_4
    order: ClassVar[int] = 4
    stability: ClassVar[float] = 2.785293563405281


@dataclass(frozen=True)
class BogackiShampine(RungeKutta):
    """Runge-Kutta pair of order 3(2), three velocities a step (FSAL).

    Order 3, error estimate O(h^3); real stability interval 2.513; needs ``velocity``.

    References
    ----------
    P. Bogacki, L. F. Shampine, A 3(2) pair of Runge-Kutta formulas, Appl. Math. Lett.
    2 (1989) 321-325, doi:10.1016/0893-9659(89)90079-7.
    """

    tableau: ClassVar[Tableau] = tableaus.BOGACKI_SHAMPINE
    order: ClassVar[int] = 3
    stability: ClassVar[float] = 2.5127453266183285
    error_order: ClassVar[int | None] = 3


@dataclass(frozen=True)
class DormandPrince(RungeKutta):
    """Runge-Kutta pair of order 5(4), six velocities a step (FSAL).

    Order 5, error estimate O(h^5); real stability interval 3.307; needs ``velocity``.

    References
    ----------
    J. R. Dormand, P. J. Prince, A family of embedded Runge-Kutta formulae, J. Comput.
    Appl. Math. 6 (1980) 19-26, doi:10.1016/0771-050X(80)90013-3.
    """

    tableau: ClassVar[Tableau] = tableaus.DORMAND_PRINCE
    order: ClassVar[int] = 5
    stability: ClassVar[float] = 3.3065678926349453
    error_order: ClassVar[int | None] = 5


@dataclass(frozen=True)
class Tsit5(RungeKutta):
    """Runge-Kutta pair of order 5(4), six velocities a step (FSAL).

    Order 5, error estimate O(h^5); real stability interval 3.507; needs ``velocity``.
    Its error constants are smaller than those of ``DormandPrince``.

    References
    ----------
    Ch. Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column
    simplifying assumption, Comput. Math. Appl. 62 (2011) 770-775,
    doi:10.1016/j.camwa.2011.06.002.
    """

    tableau: ClassVar[Tableau] = tableaus.TSITOURAS
    order: ClassVar[int] = 5
    stability: ClassVar[float] = 3.506846993804954
    error_order: ClassVar[int | None] = 5


@dataclass(frozen=True)
class DOP853(RungeKutta):
    """Runge-Kutta scheme of order 8, twelve velocities a step.

    Order 8; real stability interval 6.394; needs ``velocity``. With the differences
    e5 = O(h^6) and e3 = O(h^4) to embedded methods of orders 5 and 3 the estimate is

        e = e5 |e5| / sqrt(|e5|^2 + |e3|^2 / 100) = O(h^8)

    with Euclidean norms over the state, over each member of a batch; the original
    divides the components by their tolerances first.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I,
    sections II.5 and II.10, doi:10.1007/978-3-540-78862-1.
    """

    tableau: ClassVar[Tableau] = tableaus.DOP853
    order: ClassVar[int] = 8
    stability: ClassVar[float] = 6.39365152285118
    error_order: ClassVar[int | None] = 8

    def estimate(self, h: Any, slopes: list[Array]) -> Array | None:
        """The combined estimate of the class docstring."""
        fifth = combine(self.tableau.error, h, slopes)
        third = combine(tableaus.DOP853_THIRD, h, slopes)
        xp = namespace(fifth)
        batch = len(getattr(h, "shape", ())) > 0
        axes = tuple(range(1 if batch else 0, fifth.ndim))
        a = xp.sum(fifth * fifth, axis=axes, keepdims=True)
        b = xp.sum(third * third, axis=axes, keepdims=True)
        size = a + 0.01 * b
        # Where both vanish the quotient is 0, not 0/0.
        return fifth * xp.sqrt(a / xp.where(size > 0, size, xp.ones_like(size)))
