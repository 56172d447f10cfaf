"""What every scheme declares, and the check that a flow offers what it needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import offers

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.flow import Flow, Memory, Step

__all__ = ["Scheme", "describe", "has_noise", "lacking", "rooted", "start_slope"]

Array = Any


class Scheme:
    """One step of a flow; a frozen dataclass whose constructor is its option list.

    Attributes
    ----------
    order : int
        Order of the global error in h; the weak order for schemes with noise.
    needs : tuple of str
        Methods of the flow that ``step`` calls.
    stability : float
        Length of the interval [-stability, 0] in which |R(z)| <= 1; infinite for
        schemes that are stable on the whole negative axis.
    error_order : int or None
        The error estimate is O(h^error_order); None when there is none.
    random : bool
        Whether ``step`` draws random numbers whatever the flow.
    dissipative : bool
        Whether the energy of a gradient flow should not rise.
    multistep : bool
        Whether ``memory`` is part of the method rather than a saving of work.
    composed : bool
        Whether autograd goes through a step: it is made of methods of the flow, of
        arithmetic, and of solutions of equations that were handed to ``rooted``.
    draws : int
        Independent random arrays that a step may ask its stream for.
    """

    order: ClassVar[int]
    needs: ClassVar[tuple[str, ...]]
    stability: ClassVar[float] = math.inf
    error_order: ClassVar[int | None] = None
    random: ClassVar[bool] = False
    dissipative: ClassVar[bool] = False
    multistep: ClassVar[bool] = False
    composed: ClassVar[bool] = True
    draws: ClassVar[int] = 1

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """The state at t + h.

        Parameters
        ----------
        flow : Flow
        t, h : float or array (batch, 1)
            Time and step; one of each for every member of a batch when arrays.
        u : array
        rng : Stream or None
            Positioned at this step.
        memory : tuple of arrays and numbers
            What the previous step returned; ``()`` at the start. A step that was
            rejected is repeated with the memory it was given. With one step for each
            member of a batch, the first axis of every array is the members', and
            numbers are common to all that are stepped together.

        Returns
        -------
        Step
            New state, error estimate of the shape of ``u`` or None, memory, work.
        """
        raise NotImplementedError

    def obstacle(self, flow: Any) -> str | None:
        """Why this scheme cannot run ``flow``; None when it can."""
        missing = lacking(self, flow)
        if missing:
            return missing
        if not self.random and has_noise(flow):
            return f"`{self!r}` would leave out the noise of {describe(flow)}"
        return None

    def draws_noise(self, flow: Any) -> bool:
        """Whether steps of this ``flow`` need random numbers."""
        return self.random


def lacking(scheme: Scheme, flow: Any) -> str | None:
    """The first of the scheme's needs that ``flow`` does not offer, in a sentence."""
    for name in scheme.needs:
        try:
            offered, why = offers(flow, name), ""
        except TypeError as error:
            offered, why = False, f" ({str(error).rstrip('.')})"
        if not offered:
            return (
                f"`{scheme!r}` needs `{name}`, which {describe(flow)} does not "
                f"offer{why}"
            )
    return None


def describe(flow: Any) -> str:
    """The flow in an error message: its energy and space, else its type."""
    space = getattr(flow, "space", None)
    if space is None:
        return f"this {type(flow).__name__}"
    functional = getattr(flow, "functional", None)
    energy = "" if functional is None else f" of {functional!r}"
    return f"the flow{energy} in {space!r}"


def has_noise(flow: Any) -> bool:
    """Whether ``flow`` offers ``noise``."""
    try:
        return offers(flow, "noise")
    except TypeError:
        return False


def rooted(
    flow: Any,
    u: Array,
    residual: Callable[[list[Array]], list[Array]],
    unknowns: list[Array],
    approximate: Callable[[bool], Any] | None = None,
) -> list[Array]:
    """Solved equations of a step, as the flow wants them to be seen.

    A flow inside autograd has a method ``implicit_root``, which takes the same
    arguments after itself and gives the solution a derivative; any other flow leaves
    it as it is.

    Parameters
    ----------
    flow : Flow
    u : array (.., n)
        The state at the start of the step.
    residual : callable
        The equations, of arrays like the unknowns: those at the solution are 0.
    unknowns : list of arrays (.., n)
        The solution, found without a graph (``arrays.unrecorded``).
    approximate : callable, optional
        For False and True an approximate inverse of the derivative of ``residual``,
        or of its transpose: a linear function of such lists, or None.
    """
    attach = getattr(flow, "implicit_root", None)
    if attach is None:
        return unknowns
    found: list[Array] = attach(u, residual, unknowns, approximate)
    return found


def start_slope(flow: Any, t: Any, u: Array) -> tuple[Array | None, dict[str, int]]:
    """Velocity at the start of a run where it is offered, and the work it took."""
    try:
        offered = offers(flow, "velocity")
    except TypeError:
        offered = False
    return (flow.velocity(t, u), {"velocity_calls": 1}) if offered else (None, {})
