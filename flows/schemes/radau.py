"""The Radau IIA scheme of order 5 with a simplified Newton method for its stages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import all_finite, namespace, unrecorded
from flows.flow import Step
from flows.linear import NewtonFailure, count_iterations, shifted
from flows.linear.krylov import length, quotient
from flows.linear.operators import transpose
from flows.schemes.base import Scheme, rooted
from flows.schemes.linearized import largest, spacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.flow import Flow, Memory
    from flows.linear import Shifted

__all__ = ["Radau"]

Array = Any
Stages = list[Any]
Vectors = tuple[list[float], list[complex]]
ROOT = math.sqrt(6.0)

NODES = ((4.0 - ROOT) / 10.0, (4.0 + ROOT) / 10.0, 1.0)
MATRIX = (
    ((88 - 7 * ROOT) / 360, (296 - 169 * ROOT) / 1800, (-2 + 3 * ROOT) / 225),
    ((296 + 169 * ROOT) / 1800, (88 + 7 * ROOT) / 360, (-2 - 3 * ROOT) / 225),
    ((16 - ROOT) / 36, (16 + ROOT) / 36, 1 / 9),
)
# The last row of its inverse: h times the slope at the end of the step.
LAST = ((8 * ROOT - 3) / 3, (-8 * ROOT - 3) / 3, 5.0)
# Its eigenvalues, the inverses of the roots of x^3 - 9 x^2 + 36 x - 60.
CUBE = 3.0 ** (1.0 / 3.0)
REAL = 1.0 / (3.0 + CUBE * CUBE - CUBE)
PAIR = 1.0 / complex(
    3.0 + 0.5 * (CUBE - CUBE * CUBE), 0.5 * (3.0 ** (5 / 6) + 3.0 ** (7 / 6))
)
# f + ERROR . Z / h is the defect of an embedded method of order 3.
ERROR = ((-13 - 7 * ROOT) / 3, (-13 + 7 * ROOT) / 3, -1 / 3)


def eigenvectors() -> tuple[Vectors, Vectors]:
    """Right and left eigenvectors of the matrix for REAL and PAIR.

    Rounding of them slows Newton's method and moves no solution. They are Python
    numbers, which change no dtype.
    """
    A = np.array(MATRIX)
    columns = []
    for value in (REAL, PAIR, PAIR.conjugate()):
        shift = A[:2, :2] - value * np.eye(2)
        columns.append([*np.linalg.solve(shift, -A[:2, 2]), 1.0])
    left = np.linalg.inv(np.array(columns).T)
    rows = [np.array(columns[:2]), left[:2]]
    first, second = ((a.real.tolist(), b.tolist()) for a, b in rows)
    return first, second


VECTORS, INVERSE = eigenvectors()
MOST_ITERATIONS = 40
MOST_JACOBIANS = 10
SLOW = 0.6
LOOSEST = 1e-5


@dataclass(frozen=True)
class Radau(Scheme):
    """Collocation at the three Radau points: Radau IIA.

        U_i = u + h sum_j a_ij velocity(t + c_j h, U_j),   u' = U_3

    Order 5, stage order 3, L-stable, stiffly accurate; needs ``velocity`` and
    ``jacobian`` (once a step, at t). The stages are solved by a simplified Newton
    method, whose systems fall apart into one with I - a h J and one with a complex a.
    It starts from the collocation polynomial of the last step, takes the Jacobian anew
    where it converges slowly, and ends when its error is small against the local error
    that the estimate predicts, or is rounding (always, under ``adjoint``). The error
    estimate is the filtered difference to an embedded method of order 3, O(h^4).

    Raises
    ------
    NewtonFailure
        From ``step`` when Newton's method does not converge.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, sections IV.5 and
    IV.8, doi:10.1007/978-3-642-05221-7.
    """

    order: ClassVar[int] = 5
    needs: ClassVar[tuple[str, ...]] = ("velocity", "jacobian")
    error_order: ClassVar[int | None] = 4

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        with unrecorded(u):
            slope = memory[0] if memory else flow.velocity(t, u)
            stages = Collocation(flow, t, u, h, slope)
            # Derivatives by the implicit function theorem are those of exact stages.
            stages.exact = hasattr(flow, "implicit_root")
            Z = stages.solve(continued(memory, h) if memory else None)
            error = stages.estimate(Z)
            # The error of a stiff component in the first filter is of the size of u.
            again = flow.velocity(t, u + error)
            stages.calls += 1 + (not memory)
            if all_finite(again):
                error = stages.estimate(Z, again)
            last = combination(LAST, Z) / h
        work = {"velocity_calls": stages.calls, "jacobian_calls": stages.jacobians}
        end = rooted(flow, u, stages.defect, Z, stages.approximate)[2]
        return Step(u + end, error, (last, h, *Z), work)


class Collocation:
    """The equations Z_i = h sum_j a_ij velocity(t + c_j h, u + Z_j) of one step."""

    J: Any
    real: Shifted
    pair: Shifted

    def __init__(self, flow: Flow, t: Any, u: Array, h: Any, slope: Array) -> None:
        self.flow, self.t, self.u, self.h, self.slope = flow, t, u, h, slope
        self.calls = self.jacobians = 0
        self.exact = False
        self.linearize(t, u)

    def linearize(self, t: Any, v: Array) -> None:
        """Take the Jacobian at (t, v) for the corrections."""
        self.J, loose = self.flow.jacobian(t, v), spacing(v) ** 0.5
        self.jacobians += 1
        self.real = shifted(self.J, REAL * self.h, v, tol=loose)
        self.pair = shifted(self.J, PAIR * self.h, v, tol=loose)

    def defect(self, Z: Stages) -> Stages:
        """Z - h A F(Z)."""
        h, u, velocity = self.h, self.u, self.flow.velocity
        F = [h * velocity(self.t + c * h, u + z) for c, z in zip(NODES, Z, strict=True)]
        self.calls += 3
        return [z - combination(row, F) for z, row in zip(Z, MATRIX, strict=True)]

    def correction(self, R: Stages) -> Stages:
        """(I - h A x J)^{-1} R, by way of the eigenvectors of A."""
        first = self.real.solve(combination(INVERSE[0], R))
        second = self.pair.solve(combination(INVERSE[1], R))
        return rejoined(VECTORS, first, second)

    def approximate(self, transposed: bool) -> Callable[[Stages], Stages] | None:
        """``correction``, or the same with the transpose of I - h A x J."""
        if not transposed:
            return self.correction
        J = transpose(self.J)
        if J is None:
            return None
        loose = spacing(self.u) ** 0.5
        real = shifted(J, REAL * self.h, self.u, tol=loose)
        pair = shifted(J, PAIR * self.h, self.u, tol=loose)

        def turned(R: Stages) -> Stages:
            # The inverse of the transpose has the left eigenvectors in its columns.
            first = real.solve(combination(VECTORS[0], R))
            second = pair.solve(combination(VECTORS[1], R))
            return rejoined(INVERSE, first, second)

        return turned

    def estimate(self, Z: Stages, slope: Array | None = None) -> Array:
        """The filtered difference to the embedded method."""
        f = self.slope if slope is None else slope
        return self.real.solve((REAL * self.h) * f + REAL * combination(ERROR, Z))

    def solve(self, start: Stages | None) -> Stages:
        """Z by the simplified Newton method, from ``start``, or else from 0."""
        zero = [namespace(self.u).zeros_like(self.u)] * 3
        if start is not None:
            try:
                return self.iterate(start)
            except (NewtonFailure, np.linalg.LinAlgError):
                if self.jacobians > 1:
                    self.linearize(self.t, self.u)
        return self.iterate(zero)

    def iterate(self, Z: Stages) -> Stages:
        """The iteration of ``solve``."""
        xp, u = namespace(self.u), self.u
        still, R = xp.zeros_like(u), self.defect(Z)
        eps, residuals = spacing(u), []
        goal, before = 500.0 * eps, None
        size_u = length(u)
        done, jacobians = size_u < 0, 0
        for k in range(MOST_ITERATIONS):
            # A member that has converged stays, whatever the others need.
            move = self.correction(R)
            if k and bool(xp.any(done)):
                move = [xp.where(done, still, d) for d in move]
            Z = [z - d for z, d in zip(Z, move, strict=True)]
            scale = size_u + largest(Z)
            size = quotient(largest(move), scale)
            residuals.append(float(xp.max(size)))
            if not math.isfinite(residuals[-1]):
                count_iterations(len(residuals))
                raise NewtonFailure(
                    "the velocity at a Radau stage is not finite", residuals
                )
            rate = 0.5 + 0.0 * size if before is None else quotient(size, before)
            if k == 1 and not self.exact:
                # The local error of order 6, from the estimate of order 4.
                local = quotient(length(self.estimate(Z)), scale)
                wanted = xp.clip(0.1 * local**1.5, goal, LOOSEST)
                goal = xp.where(xp.isfinite(wanted), wanted, goal)
            # With this rate rate/(1 - rate) of the last move is left.
            done = (rate * size <= goal * (1.0 - rate)) | (size <= 8.0 * eps)
            slow = ~done & (rate > SLOW)
            done = done | (slow & (size <= 1e5 * eps))
            if bool(xp.all(done)):
                count_iterations(k + 1)
                return Z
            before, R = size, self.defect(Z)
            if bool(xp.any(slow & ~done)):
                if jacobians == MOST_JACOBIANS or not all(map(all_finite, R)):
                    break
                jacobians += 1
                # The Jacobian at the start says little about such a long step.
                self.linearize(self.t + NODES[0] * self.h, self.u + Z[0])
                before = None
        count_iterations(len(residuals))
        raise NewtonFailure(
            "the simplified Newton method of the Radau stages does not converge",
            residuals,
        )


def combination(row: Any, vectors: Stages) -> Array:
    """Sum of the vectors with the weights of ``row``."""
    total = row[0] * vectors[0]
    for weight, vector in zip(row[1:], vectors[1:], strict=True):
        total = total + weight * vector
    return total


def rejoined(vectors: Vectors, first: Array, second: Array) -> Stages:
    """Stages with these coefficients of the eigenvectors, the pair's conjugate too."""
    xp = namespace(first)
    re, im = xp.real(second), xp.imag(second)
    return [
        a * first + (2.0 * b.real) * re - (2.0 * b.imag) * im
        for a, b in zip(*vectors, strict=True)
    ]


def continued(memory: Memory, h: Any) -> Stages:
    """Stages from the collocation polynomial of the last step, continued by h."""
    _, h_before, *Z = memory
    r = h / h_before
    nodes = (0.0, *NODES)
    stages = []
    for c in NODES:
        s = 1.0 + c * r
        stage = -1.0 * Z[2]
        for j, z in enumerate(Z, 1):
            weight = 1.0
            for i, node in enumerate(nodes):
                if i != j:
                    weight = weight * ((s - node) / (nodes[j] - node))
            stage = stage + weight * z
        stages.append(stage)
    return stages
