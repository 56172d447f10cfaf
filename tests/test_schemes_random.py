"""Schemes with noise: exact moments by feeding unit impulses instead of noise."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from scheme_toys import observed

import flows.schemes as fs
from flows.random import Stream

RANDOM = [fs.EulerMaruyama(), fs.LeimkuhlerMatthews()]
RATE = 1.3
OU = SimpleNamespace(
    space=None,
    velocity=lambda t, u: -RATE * u,
    noise=lambda t, u: np.sqrt(2.0),
)


@dataclass(frozen=True)
class Impulses:
    """A stream whose i-th request is the i-th unit vector.

    A linear scheme leaves in component i of the state the coefficient of its i-th
    normal number, so that the variance is the sum of squares, without sampling.
    """

    log: list
    draw: int = 0

    def with_draw(self, draw):
        return Impulses(self.log, draw)

    def normal(self, shape, like):
        unit = np.zeros(shape)
        unit[len(self.log)] = 1.0
        self.log.append(self.draw)
        return unit


def coefficients(scheme, h, n, size=None):
    """What n steps from 0 make of each normal number."""
    log = []
    u, memory = np.zeros(size or n + 1), ()
    for k in range(n):
        step = scheme.step(OU, k * h, u, h, Impulses(log), memory)
        u, memory = step.u, step.memory
    return u


def test_euler_maruyama_has_its_exact_variance():
    h, n = 0.2, 25
    a = 1.0 - h * RATE
    expected = 2.0 * h * (1.0 - a ** (2 * n)) / (1.0 - a * a)
    assert (coefficients(fs.EulerMaruyama(), h, n) ** 2).sum() == pytest.approx(
        expected, rel=1e-13
    )
    stationary = (coefficients(fs.EulerMaruyama(), h, 400) ** 2).sum()
    assert stationary == pytest.approx(1.0 / (RATE * (1.0 - h * RATE / 2)), rel=1e-13)


@pytest.mark.parametrize("h", [0.05, 0.3, 1.0, 1.5])
def test_leimkuhler_matthews_has_the_exact_stationary_variance(h):
    """1/l for every h with h l < 2, where Euler-Maruyama has 1/(l (1 - h l/2))."""
    n = int(40 / abs(np.log(abs(1.0 - h * RATE)))) + 1
    u = coefficients(fs.LeimkuhlerMatthews(), h, n)
    assert (u**2).sum() == pytest.approx(1.0 / RATE, rel=1e-12)


def test_leimkuhler_matthews_has_its_exact_coefficients():
    """x_n = sqrt(2h)/2 sum_k a^(n-1-k) (R_k + R_{k+1}) with a = 1 - h l."""
    h, n = 0.2, 6
    a, weights = 1.0 - h * RATE, np.zeros(n + 1)
    for k in range(n):
        weights[k : k + 2] += np.sqrt(2.0 * h) / 2.0 * a ** (n - 1 - k)
    u = coefficients(fs.LeimkuhlerMatthews(), h, n)
    # The first step asks for R_1 first, then for R_0.
    np.testing.assert_allclose(u[[1, 0, *range(2, n + 1)]], weights, rtol=1e-13)


@pytest.mark.parametrize("scheme", RANDOM, ids=repr)
def test_weak_order_one_in_mean_and_variance(scheme):
    end, counts = 1.0, (20, 30, 40, 60)
    means, variances = [], []
    for n in counts:
        h = end / n
        u, memory = np.ones(1), ()
        silent = SimpleNamespace(draw=0, normal=lambda shape, like: np.zeros(shape))
        silent.with_draw = lambda draw, silent=silent: silent
        for k in range(n):
            step = scheme.step(OU, k * h, u, h, silent, memory)
            u, memory = step.u, step.memory
        means.append(abs(u[0] - np.exp(-RATE)))
        variance = (coefficients(scheme, h, n) ** 2).sum()
        variances.append(abs(variance - (1.0 - np.exp(-2.0 * RATE)) / RATE))
    sizes = end / np.array(counts)
    assert 0.9 <= observed(sizes, means) <= 1.2
    assert 0.9 <= observed(sizes, variances) <= 1.2


@pytest.mark.parametrize("scheme", RANDOM, ids=repr)
def test_a_run_continued_from_its_memory_has_the_same_bits(scheme):
    stream, u0 = Stream(7, "noise"), np.array([[0.3, -0.8], [1.0, 2.0]])

    def steps(u, memory, first, last):
        for k in range(first, last):
            step = scheme.step(OU, 0.1 * k, u, 0.1, stream.at(k), memory)
            u, memory = step.u, step.memory
        return u, memory

    whole, _ = steps(u0, (), 0, 6)
    middle, memory = steps(u0, (), 0, 3)
    np.testing.assert_array_equal(steps(middle, memory, 3, 6)[0], whole)
    assert all(isinstance(entry, np.ndarray) for entry in memory)
    assert not np.array_equal(steps(middle, memory, 4, 7)[0], whole)


def test_leimkuhler_matthews_draws_two_independent_arrays_at_the_start():
    log = []
    fs.LeimkuhlerMatthews().step(OU, 0.0, np.zeros(2), 0.1, Impulses(log, 5), ())
    assert log == [5, 6]


@pytest.mark.parametrize("scheme", RANDOM, ids=repr)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_noise_keeps_library_and_float32(scheme, library):
    u0 = np.array([[0.3, -0.8], [1.0, 2.0]], dtype=np.float32)
    flow = SimpleNamespace(
        space=None, velocity=lambda t, u: -u, noise=lambda t, u: 2.0**0.5
    )
    if library == "torch":
        u0 = pytest.importorskip("torch").from_numpy(u0)
    step = scheme.step(flow, 0.0, u0, 0.1, Stream(1, "noise"), ())
    step = scheme.step(flow, 0.1, step.u, 0.1, Stream(1, "noise", 1), step.memory)
    assert type(step.u) is type(u0)
    assert step.u.dtype == u0.dtype
    assert step.error is None


@pytest.mark.parametrize("scheme", RANDOM, ids=repr)
def test_members_of_a_batch_may_have_their_own_noisy_step(scheme):
    u0 = np.array([[0.3, -0.8], [1.0, 2.0]])
    h = np.array([[0.1], [0.2]])
    batch = scheme.step(OU, np.zeros((2, 1)), u0, h, Stream(3, "noise"), ()).u
    for i in range(2):
        alone = scheme.step(OU, 0.0, u0, float(h[i, 0]), Stream(3, "noise"), ()).u
        np.testing.assert_allclose(batch[i], alone[i], rtol=1e-15)
