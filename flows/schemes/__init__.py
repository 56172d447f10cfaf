"""Schemes: one step of a flow, whatever its space and energy.

A scheme sees only the Flow protocol (``flows.flow``). Its memory is a tuple of arrays
and numbers, so that a run stopped between two steps continues bit for bit.
"""

from __future__ import annotations

from flows.schemes.base import Scheme
from flows.schemes.explicit import (
    DOP853,
    RK4,
    BogackiShampine,
    DormandPrince,
    Euler,
    Heun,
    RungeKutta,
    Tsit5,
)
from flows.schemes.implicit import BDF2, SDIRK3, TRBDF2, ImplicitEuler
from flows.schemes.lookup import SCHEMES, require, scheme_named
from flows.schemes.proximal import JKO, MinimizingMovement
from flows.schemes.saddle import Extragradient, Optimistic
from flows.schemes.splitting import Exact, Splitting
from flows.schemes.stochastic import EulerMaruyama, LeimkuhlerMatthews

__all__ = [
    "BDF2",
    "DOP853",
    "JKO",
    "RK4",
    "SCHEMES",
    "SDIRK3",
    "TRBDF2",
    "BogackiShampine",
    "DormandPrince",
    "Euler",
    "EulerMaruyama",
    "Exact",
    "Extragradient",
    "Heun",
    "ImplicitEuler",
    "LeimkuhlerMatthews",
    "MinimizingMovement",
    "Optimistic",
    "RungeKutta",
    "Scheme",
    "Splitting",
    "Tsit5",
    "require",
    "scheme_named",
]
