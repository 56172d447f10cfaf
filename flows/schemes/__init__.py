"""Schemes: one step of a flow, whatever its space and energy.

A scheme sees only the Flow protocol (``flows.flow``). Its memory is a tuple of arrays
and numbers, so that a run stopped between two steps continues bit for bit.
"""

from __future__ import annotations

from flows.schemes.base import Scheme
from flows.schemes.bdf import BDF
from flows.schemes.dissipative import AverageVectorField, Gonzalez, ItohAbe
from flows.schemes.doubling import StepDoubling
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
from flows.schemes.exponential import Exponential
from flows.schemes.forward_backward import DouglasRachford, ForwardBackward
from flows.schemes.implicit import BDF2, SDIRK3, TRBDF2, ImplicitEuler
from flows.schemes.inertial import FISTA, PolyakMomentum
from flows.schemes.lookup import SCHEMES, require, scheme_named
from flows.schemes.proximal import JKO, MinimizingMovement
from flows.schemes.radau import Radau
from flows.schemes.rosenbrock import Rosenbrock
from flows.schemes.saddle import Extragradient, Optimistic
from flows.schemes.splitting import Exact, Splitting
from flows.schemes.stochastic import EulerMaruyama, LeimkuhlerMatthews

__all__ = [
    "BDF",
    "BDF2",
    "DOP853",
    "FISTA",
    "JKO",
    "RK4",
    "SCHEMES",
    "SDIRK3",
    "TRBDF2",
    "AverageVectorField",
    "BogackiShampine",
    "DormandPrince",
    "DouglasRachford",
    "Euler",
    "EulerMaruyama",
    "Exact",
    "Exponential",
    "Extragradient",
    "ForwardBackward",
    "Gonzalez",
    "Heun",
    "ImplicitEuler",
    "ItohAbe",
    "LeimkuhlerMatthews",
    "MinimizingMovement",
    "Optimistic",
    "PolyakMomentum",
    "Radau",
    "Rosenbrock",
    "RungeKutta",
    "Scheme",
    "Splitting",
    "StepDoubling",
    "Tsit5",
    "require",
    "scheme_named",
]
