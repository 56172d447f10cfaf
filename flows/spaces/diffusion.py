"""The check that diffusion is nowhere backward, for all spaces with densities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.energies import Entropy, Internal, total_temperature
from flows.spaces.base import refuse

if TYPE_CHECKING:
    from flows.energies import Energy

__all__ = ["refuse_backward"]


def refuse_backward(energy: Energy, space: Any) -> None:
    """TypeError where T + rho U''(rho) < 0 at one of 181 densities (with a U)."""
    rho = np.logspace(-6.0, 3.0, 181)
    temperature = total_temperature(energy)
    diffusion, size = np.full_like(rho, temperature), np.zeros_like(rho)
    inside = np.full(rho.shape, True)
    with np.errstate(all="ignore"):
        for term in energy.terms:
            if not isinstance(term, Internal) or term.temperature is not None:
                continue
            part = term.scale * term.function.enthalpy_slope(rho)
            diffusion, size = diffusion + part, size + np.abs(part)
            inside &= np.isfinite(term.function.value(rho))
    backward = inside & (diffusion < -1e-9 * (abs(temperature) + size))
    if not backward.any():
        return
    i = int(np.argmax(backward))
    diffusive = [x for x in energy.terms if isinstance(x, (Entropy, Internal))]
    raise refuse(
        min(diffusive, key=lambda term: term.scale),
        space,
        f"the diffusion T + rho U''(rho) of {energy!r} is {diffusion[i]:.3g} at "
        f"rho = {rho[i]:.3g}, and backward diffusion is ill-posed",
    )
