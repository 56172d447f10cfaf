"""What a run that cannot go on says about the cause, and what it advises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flows.control import Adaptive
from flows.loop.creep import REACH, slides, too_slow

if TYPE_CHECKING:
    import numpy as np

    from flows.loop.runner import Runner

__all__ = [
    "asked",
    "bounds",
    "creeping",
    "hint",
    "is_kink",
    "kink",
    "stuck",
    "too_small",
    "used_up",
]

Array = Any


def asked(flow: Any, problem: str) -> str | None:
    """What the flow itself says about a ``problem``, as of ``Flow.advice``."""
    own = getattr(flow, "advice", None)
    return None if own is None else own(problem)


def bounds(flow: Any) -> str:
    """What the flow's ``admissible`` states are called in an error message."""
    found = getattr(flow, "bounds", None)
    if found is None:
        found = getattr(flow.space, "bounds", None)
    if found is None:
        return "the states that `admissible` of the flow allows"
    return f"{found!r}"


def is_kink(runner: Runner, t: Any, u: Array, h: Any) -> np.ndarray:
    """Whether the run slides along a kink that its scheme cannot resolve."""
    return slides(runner.flow, t, u, REACH * h)


def kink(flow: Any) -> str:
    """The sentences about a path along a kink, and the way out."""
    return (
        "The path slides along a jump of the velocity, as at a kink of the energy, "
        "which drives it back from both sides, so that steps with an error estimate "
        "shrink to nothing. "
    ) + (
        asked(flow, "kink")
        or "Smooth the energy, or give a number dt: fl.Euler() with dt=0.01 follows "
        "the path to within dt."
    )


def hint(runner: Runner, problem: str, at: tuple[Any, Array, Any] | None = None) -> str:
    """What to try after ``problem`` in the step ``at`` = (t, u, h)."""
    flow, adaptive = runner.flow, isinstance(runner.dt, Adaptive)
    if "ends outside" in problem:
        smaller = "" if adaptive else "Take a smaller dt, or Adaptive(). "
        return smaller + outside(flow)
    if "negative" in problem:
        return (
            "ImplicitEuler() is positive at every step; or start with a few of "
            "its steps, or take a smaller "
            + ("`rtol`." if adaptive else "dt, or Adaptive().")
        )
    if "mass" in problem:
        return "Is the velocity in conservation form?"
    if at is not None and bool(is_kink(runner, *at).any()):
        return kink(flow)
    return asked(flow, "blow-up") or failing(runner, problem, adaptive)


def outside(flow: Any) -> str:
    """What to do about a path that leaves the admissible states."""
    return asked(flow, "outside") or (
        "Where the flow itself leaves these states, fl.bounds.projection lets it rest "
        "on a bound; fl.bounds.logarithm keeps a path inside that only tends to it."
    )


def failing(runner: Runner, problem: str, adaptive: bool) -> str:
    """What to try after numbers that are not finite or equations without solution."""
    if adaptive and "not solved" in problem:
        return (
            "Shorter steps do not help: end the run earlier, for instance by "
            "`until`, or check the energy there."
        )
    if adaptive:
        return (
            "Shorter steps do not help: the velocity is not defined beyond this "
            "state, or the solution blows up. End the run earlier, for instance by "
            "`until`, or check the energy there."
        )
    if "not solved" in problem:
        return "Try a smaller dt, or Adaptive()."
    if math.isfinite(getattr(runner.scheme, "stability", math.inf)):
        return (
            "The step may be unstable or the solution blows up: try a smaller dt, "
            "Adaptive(), or an implicit scheme such as ImplicitEuler()."
        )
    return "The solution may blow up in finite time: try Adaptive() or a smaller dt."


def used_up(runner: Runner, t: float, h: float) -> str:
    """The sentence about ``max_steps``."""
    stiff = math.isfinite(runner.scheme.stability)
    return (
        f"Adaptive(max_steps={runner.control.max_steps}) is used up at "
        f"t = {t:.6g} with steps of {h:.3g}. "
        + (
            asked(runner.flow, "max_steps")
            or "The problem may be stiff: try an implicit scheme such as "
            "TRBDF2(), or raise `max_steps`."
            if stiff
            else "Loosen `rtol`, or raise `max_steps`."
        )
    )


def creeping(runner: Runner, t: float, h: float, bound: bool, bent: bool) -> str | None:
    """The sentence about steps that shrink at a bound or a kink; None elsewhere."""
    text = f"the steps shrink to {h:.3g} at t = {t:.6g}"
    if bound:
        where = bounds(runner.flow)
        return f"{text}, because longer ones end outside {where}. " + outside(
            runner.flow
        )
    return f"{text}. {kink(runner.flow)}" if bent else None


def stuck(runner: Runner, t: float, u: Array, h: float, end: float) -> str | None:
    """Why the last attempts of a run were too slow to reach its end, if they were."""
    tried, most = runner.attempts, runner.control.max_steps
    if tried < most and not too_slow(t, runner.pace, tried, end, most):
        return None
    bent = bool(is_kink(runner, t, u, h).any())
    return creeping(runner, t, h, bool(runner.pace.beyond(tried)), bent)


def too_small(
    runner: Runner, t: float, h: float, remaining: float, reason: str, left: bool
) -> str:
    """The sentence about a step that no longer moves t."""
    if left:
        return f"{reason} for every step down to {h:.3g}. {outside(runner.flow)}"
    text = (
        f"the step {h:.3g} is under the spacing of floating-point numbers at "
        f"t = {t:.16g}"
    )
    because = f" ({reason})" if reason else ""
    if abs(t) < 1e3 * remaining:
        way = asked(runner.flow, "blow-up") or (
            "End the run earlier, or check that the energy is bounded below"
        )
        return (
            f"{text}{because}: the solution seems to blow up in finite time at "
            f"t* = {t:.10g}. {way}"
        )
    return f"{text}{because}. Shift the time towards 0, or loosen `rtol`"
