"""Implicit steps with a matrix from an earlier step, as BDF takes them."""

import numpy as np
import pytest

import flows as fl
from flows.schemes import chord as module
from flows.schemes.chord import chord

N = 40


def chain(kind=None, size=100.0):
    """A stiff chain with a double well at each point."""

    def value(x):
        wells = ((x * x - 1) ** 2 / 4).sum(-1)
        return size / 2 * (np.diff(x, axis=-1) ** 2).sum(-1) + wells

    def gradient(x):
        d = size * np.diff(x, axis=-1)
        g = x**3 - x
        g[..., 1:] += d
        g[..., :-1] -= d
        return g

    space = fl.Euclidean(jacobian=kind)
    return space.flow(fl.Potential(value, gradient=gradient))


def start(n=N):
    return np.sin(np.arange(n)) + 0.1


KINDS = [None, fl.Banded(1, 1), fl.Dense()]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("b", [1e-3, 0.1, 0.5])
def test_the_iteration_ends_within_a_part_of_the_local_error(kind, b):
    flow, u = chain(kind), start()
    share = 0.3
    far = flow.resolvent(0.0, u, 0.5, (u,))[0]
    w, guess = far + 0.01 * np.cos(np.arange(N)), far
    exact = flow.resolvent(0.0, w, b, (guess,))[0]
    v, place, work = chord(flow, 0.0, w, b, guess, share, ())
    assert work["jacobian_calls"] == 1
    assert work["velocity_calls"] >= 2
    error = np.sqrt(((v - exact) ** 2).mean())
    assert error <= 0.05 * share * np.sqrt(((v - guess) ** 2).mean())
    # The matrix serves steps that are a little longer and somewhere else.
    w = w + 0.01
    exact = flow.resolvent(0.0, w, 1.3 * b, (guess,))[0]
    v, again, work = chord(flow, 0.0, w, 1.3 * b, v, share, place)
    if work["jacobian_calls"] == 0:
        assert again[1] is guess
    assert np.abs(v - exact).max() < 1e-3


def test_a_step_of_another_size_is_factored_anew_with_the_same_jacobian():
    flow, u = chain(fl.Banded(1, 1)), np.ones(N)
    _, place, _ = chord(flow, 0.0, u + 0.01, 0.1, u, 0.3, ())
    _, again, work = chord(flow, 0.0, u + 0.01, 0.5, u, 0.3, place)
    assert work["jacobian_calls"] == 0
    assert (place[2], again[2]) == (0.1, 0.5)
    assert again[1] is place[1]


def test_slow_convergence_takes_a_new_matrix_and_failure_is_told():
    flow = chain(fl.Banded(1, 1), size=1.0)
    calm, steep = np.zeros(N), np.full(N, 3.0)
    _, place, _ = chord(flow, 0.0, calm + 0.01, 0.1, calm, 0.3, ())
    v, again, work = chord(flow, 0.0, steep + 0.01, 0.1, steep, 0.3, place)
    assert v is not None
    assert work["jacobian_calls"] == 1
    assert again[1] is steep
    broken = fl.Euclidean().flow(
        fl.Potential(lambda x: (x**2).sum(-1), gradient=lambda x: np.log(x))
    )
    with np.errstate(all="ignore"):
        v, _, _ = chord(broken, 0.0, -np.ones(N), 0.1, -np.ones(N), 0.3, ())
    assert v is None


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_bdf_keeps_its_tolerance_with_few_jacobians(kind):
    flow, u = chain(kind), start()
    exact = fl.solve(flow, u, (0, 1), fl.Radau(), dt=fl.Adaptive(rtol=1e-11))
    for rtol in (1e-4, 1e-6, 1e-8):
        control = fl.Adaptive(rtol=rtol, atol=rtol)
        sol = fl.solve(flow, u, (0, 1), fl.BDF(), dt=control, save_at=[1.0])
        assert np.abs(sol.u[-1] - exact.u[-1]).max() < 100 * rtol
        assert sol.stats["jacobian_calls"] < 0.5 * sol.stats["steps"]
        assert sol.stats["velocity_calls"] < 6 * sol.stats["steps"]


def test_bdf_of_fixed_steps_keeps_its_order():
    flow, u = chain(fl.Banded(1, 1), size=4.0), start()
    exact = fl.solve(flow, u, (0, 1), fl.Radau(), dt=fl.Adaptive(rtol=1e-12)).u[-1]
    errors = [
        np.abs(fl.solve(flow, u, (0, 1), fl.BDF(), dt=1 / n).u[-1] - exact).max()
        for n in (40, 80, 160)
    ]
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    assert rates.max() > 3.5, (errors, rates)


def test_nothing_but_the_memory_decides_a_step(monkeypatch):
    flow, u = chain(fl.Banded(1, 1)), start()
    control = fl.Adaptive(rtol=1e-6)
    plain = fl.solve(flow, u, (0, 1), fl.BDF(), dt=control)

    class Forgetful(dict):
        def get(self, key):
            return None

    monkeypatch.setattr(module, "SYSTEMS", Forgetful())
    again = fl.solve(flow, u, (0, 1), fl.BDF(), dt=control)
    assert np.array_equal(plain.t, again.t)
    assert np.array_equal(plain.u, again.u)


def test_products_kinks_and_small_states_are_left_to_the_resolvent():
    krylov = fl.solve(chain(fl.Krylov()), start(), (0, 0.1), fl.BDF(), dt=0.01)
    kinks = fl.Euclidean().flow(fl.quadratic() + fl.nonsmooth.l1(0.1))
    lasso = fl.solve(kinks, start(), (0, 0.1), fl.BDF(), dt=0.01)
    small = fl.solve(chain(), start(5), (0, 0.1), fl.BDF(), dt=0.01)
    for sol in (krylov, lasso, small):
        assert "jacobian_calls" not in sol.stats
        assert sol.stats["resolvent_calls"] >= sol.stats["steps"]
