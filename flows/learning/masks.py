"""Randomly masked flows: each step moves a random part of the coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from flows.arrays import array_like
from flows.control import positive
from flows.flow import Flow

__all__ = ["MaskedFlow", "masked"]

Array = Any


def masked(flow: Flow, p: float, *, rescaled: bool = True) -> MaskedFlow:
    """The flow in which every step moves each coordinate with probability p.

        velocity = (m / p) * v,    m_i independent Bernoulli(p), drawn once a step

    Parameters
    ----------
    flow : Flow
        With a velocity.
    p : float
        Probability that a coordinate moves, 0 < p <= 1.
    rescaled : bool
        Divide by p, so that the mean velocity is that of ``flow``.

    Returns
    -------
    MaskedFlow
        ``solve`` draws the masks; it needs ``rng``. On x^2 l/2 explicit Euler steps
        have E x_k = (1 - h l)^k x_0 and E x_k^2 = (1 - 2 h l + h^2 l^2 / p)^k x_0^2:
        stable in mean square iff h l < 2 p.

    Raises
    ------
    TypeError, ValueError
        For a flow without velocity, and p outside (0, 1].

    References
    ----------
    R. Xu, F. Luo, Z. Zhang, C. Tan, B. Chang, S. Huang, F. Huang, Raise a child in
    large language model: towards effective and generalizable fine-tuning, EMNLP (2021),
    doi:10.18653/v1/2021.emnlp-main.749.
    """
    if getattr(flow, "velocity", None) is None:
        raise TypeError(f"`flow` must have a velocity, got {flow!r}.")
    value = positive("p", p)
    if value > 1.0:
        raise ValueError(f"`p` must be a probability in (0, 1], got {p!r}.")
    return MaskedFlow(flow.space, flow, value, rescaled)


@dataclass(frozen=True, eq=False)
class MaskedFlow(Flow):
    """m velocity / p with the mask of the present step; all ones before ``draw``."""

    space: Any = field()
    inner_flow: Any
    p: float
    rescaled: bool = True
    stream: Any = field(default=None, repr=False)
    is_gradient = False

    def draw(self, rng: Any) -> MaskedFlow:
        """The flow with the masks of one step, the same for all its stages."""
        return replace(self, stream=rng)

    def velocity(self, t: Any, u: Array) -> Array:
        """The masked velocity; unmasked, the mean of all masks, before ``draw``."""
        v = self.inner_flow.velocity(t, u)
        if self.stream is None:
            return v if self.rescaled else self.p * v
        moves = self.stream.uniform(tuple(u.shape), like=u) < self.p
        mask = array_like(moves, u) / (self.p if self.rescaled else 1.0)
        return mask * v

    def energy(self, t: Any, u: Array) -> Any:
        """The energy of the flow that is masked."""
        return self.inner_flow.energy(t, u)
