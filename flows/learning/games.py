"""Games: every player descends a loss of its own in its own coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, batch_matvec, namespace
from flows.energies import Energy, Potential
from flows.flow import Flow, Memory
from flows.linear import newton
from flows.spaces import Euclidean
from flows.spaces.base import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GameFlow", "game"]

Array = Any


def game(losses: Mapping[str, Energy], blocks: Mapping[str, Sequence[int]]) -> GameFlow:
    """The flow in which every player descends its own loss.

        dx_i/dt = -d L_i(x) / dx_i    for the coordinates x_i of player i

    Parameters
    ----------
    losses : mapping of names to energies
        L_i, each a sum of Potentials of all coordinates.
    blocks : mapping of the same names to indices
        The coordinates of each player; together they are 0, .., n - 1, each once.

    Returns
    -------
    GameFlow
        No gradient flow, so it has no energy. Simultaneous descent is ``Euler()``,
        alternating descent ``Splitting("x y", inner=Euler())`` over the players' names.

    Raises
    ------
    TypeError, ValueError
        For losses that are not Potentials, and for blocks that overlap or leave gaps.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> L = fl.Potential("x*y")
    >>> flow = fl.learning.game({"min": L, "max": -L}, {"min": [0], "max": [1]})
    >>> flow.velocity(0.0, np.array([1.0, 0.5]))
    array([-0.5,  1. ])

    References
    ----------
    L. Mescheder, A. Geiger, S. Nowozin, Which training methods for GANs do actually
    converge?, ICML (2018), arXiv:1801.04406.
    """
    for given, what in ((losses, "losses"), (blocks, "blocks")):
        if not isinstance(given, Mapping):
            raise TypeError(
                f"`{what}` must be a mapping with an entry for each player, such as "
                '{"x": Potential("x*y"), "y": -Potential("x*y")} and '
                f'{{"x": [0], "y": [1]}}; got {given!r}.'
            )
    if not losses or set(losses) != set(blocks):
        raise ValueError(
            f"`losses` and `blocks` must name the same players, got {list(losses)} and "
            f"{list(blocks)}."
        )
    space = Euclidean()
    for name, loss in losses.items():
        if not isinstance(loss, Energy):
            raise TypeError(
                f"`losses[{name!r}]` must be an energy such as Potential('x*y'), got "
                f"{loss!r}."
            )
        for term in loss.terms:
            if not isinstance(term, Potential):
                raise refuse(term, space, "a loss is a function of the coordinates")
    owned = {name: np.atleast_1d(np.asarray(b)) for name, b in blocks.items()}
    everything = np.concatenate(list(owned.values()))
    if everything.dtype.kind not in "iu" or not np.array_equal(
        np.sort(everything), np.arange(len(everything))
    ):
        raise ValueError(
            "`blocks` must hold each index 0, .., n - 1 exactly once, got "
            f"{everything.tolist()}."
        )
    masks = {}
    for name, indices in owned.items():
        mask = np.zeros(len(everything))
        mask[indices] = 1.0
        masks[name] = mask
    return GameFlow(space, dict(losses), masks)


@dataclass(frozen=True, eq=False)
class GameFlow(Flow):
    """dx_i/dt = -d L_i / dx_i; ``masks`` mark the coordinates of each player."""

    space: Euclidean = field()
    losses: Mapping[str, Energy]
    masks: Mapping[str, np.ndarray] = field(repr=False)
    is_gradient = False

    def _summed(self, name: str, t: Any, u: Array) -> Array:
        """Sum over players of mask times gradient (Hessian) of the own loss."""
        n = len(next(iter(self.masks.values())))
        if u.shape[-1] != n:
            raise ValueError(
                f"`u0` has {u.shape[-1]} coordinate(s), but the players have {n}."
            )
        total = 0.0
        for player, loss in self.losses.items():
            mask = array_like(self.masks[player], u)
            mask = mask if name == "gradient_at" else mask[..., None]
            for term in loss.terms:
                total = total + mask * getattr(term, name)(u, t)
        return total

    def velocity(self, t: Any, u: Array) -> Array:
        """Minus the gradient of each player's loss in its coordinates."""
        return -self._summed("gradient_at", t, u)

    def jacobian(self, t: Any, u: Array) -> Array:
        """Derivative of the velocity, not symmetric."""
        return -self._summed("hessian_at", t, u)

    def resolvent(
        self, t: Any, w: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        """v = w + h velocity(t, v) by Newton's method from the last state."""
        xp = namespace(w)
        identity = array_like(np.eye(w.shape[-1]), w)

        def residual(v: Array) -> Array:
            return v - w - h * self.velocity(t, v)

        def solve(v: Array, r: Array) -> Array:
            size = h[..., None] if getattr(h, "ndim", 0) else h
            matrix = identity - size * self.jacobian(t, v)
            return batch_matvec(xp.linalg.inv(matrix), r)

        v = newton(residual, solve, memory[0] if memory else w).x
        return v, (v,)

    def norm(self, e: Array) -> Any:
        """Root mean square over the coordinates, for each member of a batch."""
        xp = namespace(e)
        size = xp.sqrt(xp.mean(e * e, axis=-1))
        return float(size) if e.ndim == 1 else size

    def parts(self) -> dict[str, Flow]:
        """The players: each moves alone, the others stand still."""
        return {
            name: GameFlow(
                self.space,
                {**dict.fromkeys(self.losses, Potential(0.0)), name: loss},
                self.masks,
            )
            for name, loss in self.losses.items()
        }

    def default(self) -> tuple[str, None]:
        """Dormand-Prince with adaptive steps."""
        return "DormandPrince", None
