"""Statements about particles and the random stream."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from flows import problems
from flows.energies import Entropy, Interaction, Potential, kl, quadratic
from flows.measures import Gaussian
from flows.random import Stream, philox
from flows.schemes import DOP853, EulerMaruyama, LeimkuhlerMatthews
from flows.solve import solve, steps
from flows.spaces import LangevinParticles, Particles
from flows.theory.verify import statement
from flows.transport import wasserstein

Sides = tuple[Any, Any, float]


@statement("philox", "Philox4x32-10 has the published words")
def words() -> Sides:
    full = np.uint64(0xFFFFFFFF)
    got = philox((full,) * 4, (0xFFFFFFFF, 0xFFFFFFFF))
    published = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    return [int(w) for w in got], published, 0.0


@statement("chunks", "random numbers do not depend on how particles are cut in chunks")
def chunks() -> Sides:
    stream = Stream(1, "noise", 3)
    whole = stream.normal((50_000, 2))
    part = stream.normal((20_000, 2), first=30_000)
    return float(np.abs(whole[30_000:] - part).max()), 0.0, 0.0


@statement(
    "quadratic-attraction", "particles under |x|^2/2 contract to their mean by e^-t"
)
def quadratic_attraction() -> Sides:
    x = np.random.default_rng(0).normal(size=(50, 3))
    flow = Particles(50).flow(Interaction("r**2/2"))
    sol = solve(flow, x, (0, 1), DOP853(), dt=0.1)
    mean = x.mean(axis=0)
    exact = mean + math.exp(-1.0) * (x - mean)
    return float(np.abs(sol.u[-1] - exact).max()), 0.0, 1e-12


@statement("sampling", "Langevin particles follow the exact law to N^(-1/2)")
def sampling() -> Sides:
    p = problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    n = 40_000
    flow = LangevinParticles(n).flow(p.energy)
    sol = solve(
        flow, p.exact(0.0), (0, 1), EulerMaruyama(), dt=0.01, save_at=[1.0], rng=0
    )
    law = p.exact(1.0)
    z = math.sqrt(n) * float(sol.u[-1].mean() - law.mean) / math.sqrt(float(law.cov))
    # 4 standard errors, and 1 for the bias of the step.
    return z, 0.0, 5.0


def stationary(scheme: Any, h: float) -> float:
    """Variance of 2e5 particles under x^2/2 after 20 units of time."""
    n = 200_000
    flow = LangevinParticles(n).flow(kl("x**2/2"))
    start = Gaussian(0.0, 1.0)
    sol = solve(flow, start, (0, 20), scheme, dt=h, save_at=[20.0], rng=1)
    return float(sol.u[-1].var())


@statement("ula-bias", "Euler-Maruyama with step h settles at variance 1/(1 - h/2)")
def ula_bias() -> Sides:
    h = 0.5
    # 4 standard errors of a variance: 4 * 1.33 * sqrt(2 / 2e5).
    return stationary(EulerMaruyama(), h), 1 / (1 - h / 2), 1.7e-2


@statement("leimkuhler-matthews", "Leimkuhler-Matthews settles at variance 1 exactly")
def leimkuhler_matthews() -> Sides:
    return stationary(LeimkuhlerMatthews(), 0.5), 1.0, 1.3e-2


@statement(
    "mckean-vlasov", "x^2/4 + |x-y|^2/2: variance rate doubles, mean rate does not"
)
def mckean_vlasov() -> Sides:
    n = 40_000
    energy = Entropy(0.2) + quadratic(0.5) + Interaction("r**2/2")
    flow = LangevinParticles(n).flow(energy)
    sol = solve(
        flow, Gaussian(1.0, 1.0), (0, 1), EulerMaruyama(), dt=0.01, save_at=[1.0], rng=2
    )
    rest = 0.2 / 1.5
    exact = [math.exp(-0.5), rest + (1 - rest) * math.exp(-3.0)]
    return [float(sol.u[-1].mean()), float(sol.u[-1].var())], exact, 1.2e-2


@statement("langevin-law", "Langevin particles in a double well reach exp(-V/T)")
def langevin_law() -> Sides:
    V, T = "x**4/4 - x**2/2", 0.5
    law = problems.gibbs(V, T=T).exact(0.0)
    flow = LangevinParticles(40_000).flow(Entropy(T) + Potential(V))
    sol = solve(
        flow,
        Gaussian(0.0, 1.0),
        (0, 10),
        LeimkuhlerMatthews(),
        dt=0.02,
        save_at=[10.0],
        rng=3,
    )
    return wasserstein(sol.measure(-1), law), 0.0, 2.5e-2


def noisy_moments(scheme: Any, h: float, k: int) -> list[float]:
    """Mean and variance of 2e5 particles under x^2/2 after k steps from 2."""
    n = 200_000
    flow = LangevinParticles(n).flow(kl("x**2/2"))
    path = steps(flow, np.full((n, 1), 2.0), scheme, dt=h, rng=5)
    *_, (_, u) = itertools.islice(path, k)
    return [float(u.mean()), float(u.var())]


@statement(
    "follows-euler-maruyama",
    "EulerMaruyama on x^2/2 is the OU process of rate -log(1-h)/h, variance 1/(1-h/2)",
)
def follows_euler_maruyama() -> Sides:
    h, k = 0.5, 3
    rate, variance = -math.log(1 - h) / h, 1 / (1 - h / 2)
    theory = [
        2 * math.exp(-rate * k * h),
        variance * (1 - math.exp(-2 * rate * k * h)),
    ]
    # Four standard errors of a variance, 4 * 1.31 * sqrt(2/n).
    return noisy_moments(EulerMaruyama(), h, k), theory, 1.7e-2


@statement(
    "follows-leimkuhler",
    "LeimkuhlerMatthews on x^2/2: the mean of that process, the variance of the law",
)
def follows_leimkuhler_matthews() -> Sides:
    h, k = 0.5, 12
    mean = 2 * math.exp(math.log(1 - h) * k)
    return noisy_moments(LeimkuhlerMatthews(), h, k), [mean, 1.0], 1.3e-2
