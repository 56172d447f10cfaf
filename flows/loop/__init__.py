"""One committed step after another: the loop under ``solve`` and ``steps``.

``runner`` commits single steps, ``own_steps`` those of the members of a batch, ``run``
goes from save time to save time, ``stopping`` and ``own_events`` find the ends and
events, ``door`` checks what a user gives.
"""

from __future__ import annotations

from flows.loop.runner import START, Runner, State, StepFailure

__all__ = ["START", "Runner", "State", "StepFailure"]
