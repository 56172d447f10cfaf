"""Particles with noise: what the flow offers, and exact steps of linear ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flows as fl
from flows.random import Stream

CLOUD = np.random.default_rng(5).normal(size=(9, 2))
WELL = fl.Potential("(x**2 - 1)**2/4 + y**2/2")


def test_langevin_flows_have_noise_and_no_energy():
    flow = fl.LangevinParticles(9).flow(
        fl.Entropy(0.3) + fl.Internal("rho*log(rho)") + WELL
    )
    assert flow.noise(0.0, CLOUD) == pytest.approx(math.sqrt(2.6))
    assert not hasattr(flow, "energy")
    assert not hasattr(flow, "exact")
    same = fl.Particles(9).flow(WELL)
    assert (flow.velocity(0.0, CLOUD) == same.velocity(0.0, CLOUD)).all()
    assert flow.default() == ("LeimkuhlerMatthews", 0.01)
    with pytest.raises(TypeError, match="no finite energy to minimize; take Quantiles"):
        flow.prox  # noqa: B018


def test_without_forces_the_velocity_is_zero():
    flow = fl.LangevinParticles(9).flow(fl.Entropy(1.0))
    assert (flow.velocity(0.0, CLOUD) == np.zeros((9, 2))).all()
    assert flow.default() == ("LeimkuhlerMatthews", 0.01)


def test_the_exact_langevin_step_has_the_law_of_the_process():
    n, h, T = 20_000, 0.4, 0.5
    A = np.array([[2.0, 0.5], [0.5, 1.0]])
    flow = fl.LangevinParticles(n).flow(fl.Entropy(T) + fl.quadratic(A, b=[1.0, 0.0]))
    x = np.tile([1.0, -2.0], (n, 1))
    y = flow.exact(0.0, x, h, Stream(3, "noise"))
    from scipy.linalg import expm

    rest = np.linalg.solve(A, [1.0, 0.0])
    mean = rest + expm(-h * A) @ ([1.0, -2.0] - rest)
    cov = T * np.linalg.solve(A, np.eye(2) - expm(-2 * h * A))
    # Four standard errors: sd/sqrt(n) for means, var sqrt(2/n) for variances.
    spread = np.sqrt(np.diag(cov))
    assert (np.abs(np.mean(y, axis=0) - mean) < 4 * spread / math.sqrt(n)).all()
    allowed = 4 * math.sqrt(2 / n) * np.outer(spread, spread)
    assert (np.abs(np.cov(y.T) - cov) < allowed).all()


def test_the_exact_mean_field_step_has_the_law_of_n_particles():
    # The mean is a process of rate 1 with noise 1/n, the deviations have rate 1 + K.
    n, h, T, K = 5, 0.7, 0.5, 3.0
    flow = fl.LangevinParticles(n).flow(
        fl.Entropy(T) + fl.quadratic(1.0) + fl.Interaction(f"{K}*r**2/2")
    )
    start, noise, copies = np.zeros((n, 40)), Stream(0, "noise"), 4000
    draws = [flow.exact(0.0, start, h, noise.at(k)) for k in range(100)]
    y = np.concatenate(draws, axis=1)

    def variance(rate):
        return T * (1 - math.exp(-2 * rate * h)) / rate

    tolerance = 4 * math.sqrt(2 / copies)
    mean = np.mean(y, axis=0)
    assert np.var(mean) == pytest.approx(variance(1.0) / n, rel=tolerance)
    inside = np.sum((y - mean) ** 2) / (copies * (n - 1))
    assert inside == pytest.approx(
        variance(1.0 + K), rel=4 * math.sqrt(2 / (copies * (n - 1)))
    )


def test_the_default_step_of_a_linear_langevin_flow_is_a_part_of_the_stable_one():
    flow = fl.LangevinParticles(9).flow(fl.Entropy(1.0) + fl.quadratic([1.0, 50.0]))
    assert flow.stable_step(0.0, CLOUD) == pytest.approx(0.04)
    name, dt = flow.default()
    assert (name, dt) == ("LeimkuhlerMatthews", pytest.approx(0.002))


def test_langevin_states_live_on_a_device():
    torch = pytest.importorskip("torch")
    space = fl.LangevinParticles(9, device="cpu", dtype="float32")
    u = space.project(fl.Gaussian([0.0, 0.0], 1.0), 0)
    assert isinstance(u, torch.Tensor)
    flow = space.flow(fl.Entropy(0.3) + fl.quadratic())
    assert flow.velocity(0.0, u).dtype == torch.float32
    assert flow.exact(0.0, u, 0.1, Stream(0, "noise")).dtype == torch.float32
    assert space.measure(u).points.dtype == np.float64
