"""flows: gradient flows of vectors and measures.

Write an energy once, choose a geometry, run it -- on a vector, a grid, quantiles or
particles, or as minimizing movements -- next to its exact solution.

>>> import flows as fl
>>> p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
>>> flow = fl.Grid((-8, 8, 400)).flow(p.energy)
>>> sol = fl.solve(flow, p.exact(0.0), p.t, fl.TRBDF2(), dt=0.01)
>>> fl.wasserstein(sol.measure(-1), p.exact(p.t[1])) < 1e-3
True
"""

from __future__ import annotations

__version__ = "0.1.0"

from flows import learning, plotting, problems, theory
from flows.checkpoint import Checkpoint, resume
from flows.control import PI, Adaptive
from flows.energies import (
    Energy,
    Entropy,
    Interaction,
    Internal,
    Potential,
    kl,
    porous_medium,
    quadratic,
    separable,
)
from flows.flow import Flow, Step
from flows.hooks import Check, Progress, Record, Steady
from flows.measures import (
    Barenblatt,
    Density,
    Dirac,
    Empirical,
    Gaussian,
    Histogram,
    Measure,
    Mixture,
    Uniform,
)
from flows.problems import Problem
from flows.schemes import (
    BDF2,
    DOP853,
    JKO,
    RK4,
    SDIRK3,
    TRBDF2,
    BogackiShampine,
    DormandPrince,
    Euler,
    EulerMaruyama,
    Exact,
    Extragradient,
    Heun,
    ImplicitEuler,
    LeimkuhlerMatthews,
    MinimizingMovement,
    Optimistic,
    Scheme,
    Splitting,
    Tsit5,
)
from flows.solution import Interrupted, Solution, SolveError, load
from flows.solve import solve, steps
from flows.spaces import (
    Euclidean,
    Grid,
    LangevinParticles,
    Particles,
    Quantiles,
    Space,
)
from flows.theory import check_descent, check_gradient, convergence
from flows.transport import wasserstein

__all__ = [
    "BDF2",
    "DOP853",
    "JKO",
    "PI",
    "RK4",
    "SDIRK3",
    "TRBDF2",
    "Adaptive",
    "Barenblatt",
    "BogackiShampine",
    "Check",
    "Checkpoint",
    "Density",
    "Dirac",
    "DormandPrince",
    "Empirical",
    "Energy",
    "Entropy",
    "Euclidean",
    "Euler",
    "EulerMaruyama",
    "Exact",
    "Extragradient",
    "Flow",
    "Gaussian",
    "Grid",
    "Heun",
    "Histogram",
    "ImplicitEuler",
    "Interaction",
    "Internal",
    "Interrupted",
    "LangevinParticles",
    "LeimkuhlerMatthews",
    "Measure",
    "MinimizingMovement",
    "Mixture",
    "Optimistic",
    "Particles",
    "Potential",
    "Problem",
    "Progress",
    "Quantiles",
    "Record",
    "Scheme",
    "Solution",
    "SolveError",
    "Space",
    "Splitting",
    "Steady",
    "Step",
    "Tsit5",
    "Uniform",
    "__version__",
    "check_descent",
    "check_gradient",
    "convergence",
    "kl",
    "learning",
    "load",
    "plotting",
    "porous_medium",
    "problems",
    "quadratic",
    "resume",
    "separable",
    "solve",
    "steps",
    "theory",
    "wasserstein",
]
