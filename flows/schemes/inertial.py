"""Discrete accelerated methods, as schemes for second-order flows.

A method with learning rate s is a step h = sqrt(s) in time. The state holds positions x
and velocities v = (x_k - x_{k-1})/h, so that nothing else has to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step, offers
from flows.schemes.base import Scheme

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["FISTA", "PolyakMomentum"]

Array = Any


@dataclass(frozen=True)
class FISTA(Scheme):
    """Nesterov's accelerated gradient method; with a kink, the accelerated prox method.

        y  = x_k + beta_k (x_k - x_{k-1})
        x_{k+1} = prox_{s g}(y - s grad f(y)),    s = h^2,  V = f + g

    beta_k is the flow's ``momentum``: (k - 1)/(k + r - 1) on ``Nesterov(r)``, and
    (1 - q)/(1 + q) with q = friction h/2 on ``HeavyBall``, which is Nesterov's choice
    for mu-strongly convex energies when the friction is 2 sqrt(mu).

    Order 1 to the equation; needs ``momentum`` and ``base``; no error estimate. On a
    quadratic of curvature L it is stable for h^2 L <= 4/3. From rest at t = 0, for
    convex V, h^2 L <= 1 and r >= 3

        V(x_k) - V* <= (r - 1)^2 |x_0 - x*|^2 / (2 h^2 (k + r - 2)^2).

    References
    ----------
    Y. Nesterov, A method for solving the convex programming problem with convergence
    rate O(1/k^2), Soviet Math. Dokl. 27 (1983) 372-376.
    A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems, SIAM J. Imaging Sci. 2 (2009) 183-202, doi:10.1137/080716542.
    W. Su, S. Boyd, E. J. Candes, J. Mach. Learn. Res. 17 (2016) 1-43, arXiv:1503.01243.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("momentum", "base")
    stability: ClassVar[float] = 4.0 / 3.0

    def step(
        self, flow: Any, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        x, v = flow.space.split(u)
        y = x + (flow.momentum(t, h) * h) * v
        new, work = descend(flow.base, t, h, y, y)
        return Step(flow.space.join(new, (new - x) / h), stats=work)


@dataclass(frozen=True)
class PolyakMomentum(Scheme):
    """Gradient descent with momentum, Polyak's discrete heavy ball.

        x_{k+1} = x_k - s grad V(x_k) + beta (x_k - x_{k-1}),    s = h^2

    beta is the flow's ``momentum``, on ``HeavyBall`` (1 - q)/(1 + q) with
    q = friction h/2. A method given by s and beta is therefore the step h = sqrt(s)
    with friction 2 (1 - beta)/((1 + beta) h). A kink takes its proximal step.

    Order 1 to the equation; needs ``momentum`` and ``base``; no error estimate. On a
    quadratic of curvature L it is stable for h^2 L < 2 (1 + beta), at least 2.

    References
    ----------
    B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR
    Comput. Math. Math. Phys. 4 (1964) 1-17, doi:10.1016/0041-5553(64)90137-5.
    """

    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("momentum", "base")
    stability: ClassVar[float] = 2.0

    def step(
        self, flow: Any, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        x, v = flow.space.split(u)
        y = x + (flow.momentum(t, h) * h) * v
        new, work = descend(flow.base, t, h, x, y)
        return Step(flow.space.join(new, (new - x) / h), stats=work)


def descend(
    base: Flow, t: Any, h: Any, at: Array, y: Array
) -> tuple[Array, dict[str, int]]:
    """y + h^2 force(at), followed by the proximal step of what is not smooth."""
    s = h * h
    parts = base.parts() if offers(base, "parts") else {}
    if "smooth" in parts and "prox" in parts:
        y = y + s * parts["smooth"].velocity(t, at)
        new, _ = parts["prox"].prox(t + h, y, s, ())
        return new, {"velocity_calls": 1, "prox_calls": 1}
    return y + s * base.velocity(t, at), {"velocity_calls": 1}
