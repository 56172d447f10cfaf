"""Exact flows through kinks, merges and bounds, against independent computations."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

import flows as fl
from flows import problems

RNG = np.random.default_rng(0)
SPECTRUM = RNG.normal(size=(4, 3))
STAIRS = np.array([0.0, 0.0, 2.0, 2.0, 2.0, -1.0, 0.5, 0.5, 3.0, 2.5, 2.0])

PROBLEMS = {
    "huber": lambda: problems.huber(0.5, [2.0, -0.3, 0.0]),
    "huber batch": lambda: problems.huber(1.5, [[2.0, -0.3], [1.0, 5.0]]),
    "spectral": lambda: problems.spectral_norm(),
    "spectral full": lambda: problems.spectral_norm(SPECTRUM, t=(0.0, 4.0)),
    "spectral rank": lambda: problems.spectral_norm([2.0, 2.0, 0.0], t=(0.0, 4.0)),
    "nuclear": lambda: problems.nuclear_norm(),
    "nuclear full": lambda: problems.nuclear_norm(SPECTRUM),
    "tv": lambda: problems.total_variation(),
    "tv stairs": lambda: problems.total_variation(STAIRS),
    "tv random": lambda: problems.total_variation(RNG.normal(size=30)),
    "box": lambda: problems.box_quadratic(),
    "box batch": lambda: problems.box_quadratic(
        [2.0, -0.5], [1.0, 3.0], [[0.2, 0.9], [0.0, 1.0]], upper=[1.0, np.pi]
    ),
    "simplex": lambda: problems.simplex_quadratic(),
    "simplex corner": lambda: problems.simplex_quadratic(
        [0.1, 0.8, 0.7, -3.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]
    ),
    "simplex inside": lambda: problems.simplex_quadratic(
        [0.5, 0.6, 0.4], [0.2, 0.3, 0.5]
    ),
}
EXACT_STEPS = [name for name in PROBLEMS if name.split()[0] in ("nuclear", "tv")]
every = pytest.mark.parametrize("name", PROBLEMS)


def flow_of(p):
    if "Matrices" in p.spaces:
        return fl.Matrices(*p.exact(0.0).shape).flow(p.energy)
    return fl.Euclidean().flow(p.energy)


@every
def test_small_proximal_steps_tend_to_the_path(name):
    p = PROBLEMS[name]()
    flow = flow_of(p)

    def error(h):
        sol = fl.solve(flow, p.exact(0.0), p.t, fl.JKO(), dt=h * p.t[1])
        exact = [p.exact(t) for t in sol.t]
        return max(np.abs(u - x).max() for u, x in zip(sol.u, exact, strict=True))

    errors = [error(h) for h in (1 / 40, 1 / 320)]
    if name in EXACT_STEPS:
        assert max(errors) < 1e-13
    else:
        assert errors[1] < errors[0] / 5
        assert errors[1] < 0.02


@every
def test_the_path_starts_with_the_shortest_subgradient(name):
    p = PROBLEMS[name]()
    flow = flow_of(p)
    t0, t1 = p.t
    for part in (0.0, 0.21, 0.53):
        t, h = t0 + part * (t1 - t0), 1e-6
        x = p.exact(t)
        z = flow.encode(x) if hasattr(flow, "encode") else x
        v = flow.velocity(t, z)
        v = flow.decode(v) if hasattr(flow, "decode") else v
        assert (p.exact(t + h) - x) / h == pytest.approx(v, abs=1e-4)


@every
def test_energies_limits_and_rates(name):
    p = PROBLEMS[name]()
    flow = flow_of(p)
    t0, t1 = p.t
    times = np.linspace(t0, t1, 9)
    energies = np.array([p.exact_energy(t) for t in times])
    for t, value in zip(times, energies, strict=True):
        assert flow.energy(t, p.exact(t)) == pytest.approx(value, abs=1e-12)
    assert (np.diff(energies, axis=0) <= 1e-12).all()
    assert p.exact(t1 + 200.0) == pytest.approx(p.limit, abs=1e-9)
    if p.rate is not None:
        least = flow.energy(0.0, p.limit)
        left, before = energies[1:] - least, energies[:-1] - least
        bound = np.exp(-p.rate * (times[1] - times[0])) * before
        assert (left <= bound + 1e-12).all()
    again = pickle.loads(pickle.dumps(p))
    assert again.exact(t1) == pytest.approx(p.exact(t1), abs=0)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_closed_proximal_lengths_solve_their_equation(p):
    for h in (1e-6, 0.3, 1e5):
        for r in (1e-8, 0.2, 3.0, 1e6):
            s = problems.power_step(p, r, h)
            if p == 1.0:
                assert s == max(r - h, 0.0)
            else:
                root = brentq(lambda s: s + h * s ** (p - 1) - r, 0.0, r, xtol=1e-300)  # noqa: B023
                assert s == pytest.approx(root, rel=1e-13)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("n", [1, 3])
def test_the_library_takes_these_steps(p, n):
    problem = problems.power(p, np.full(n, 0.7))
    flow = fl.Euclidean().flow(problem.energy)
    x = RNG.normal(size=(6, n))
    r = np.linalg.norm(x, axis=1, keepdims=True)
    for h in (0.1, 1.0, 10.0):
        v, _ = flow.prox(0.0, x, h, ())
        assert v == pytest.approx(problems.power_step(p, r, h) / r * x, abs=1e-13)


def test_powers_between_have_steps_of_rounding_accuracy_on_batches():
    flow = fl.Euclidean().flow(problems.power(1.2, np.ones(3)).energy)
    x, h = RNG.normal(size=(200, 3)), 0.4
    v, _ = flow.prox(0.0, x, h, ())
    s, r = np.linalg.norm(v, axis=1), np.linalg.norm(x, axis=1)
    assert s + h * s**0.2 == pytest.approx(r, rel=1e-14)


def test_top_singular_values_merge_when_theory_says():
    p = problems.spectral_norm([4.0, 2.0, 1.0])
    assert p.constants["merges"] == pytest.approx([math.log(2), 3 * math.log(2)])
    before, after = p.exact(0.5), p.exact(3.0)
    assert before == pytest.approx(np.diag([4 * math.exp(-0.5), 2.0, 1.0]))
    top = math.exp(-(3.0 - 3 * math.log(2)) / 3)
    assert after == pytest.approx(top * np.eye(3))
    halves = [4.0 * math.exp(-1.5)] * 3
    assert problems.spectral_norm([4.0, 4.0, 4.0]).exact(4.5) == pytest.approx(
        np.diag(halves)
    )


def test_spectral_steps_have_order_one():
    p = problems.spectral_norm([4.0, 2.0, 1.0])
    flow = fl.Matrices(3, 3).flow(p.energy)

    def error(h):
        sol = fl.solve(flow, p.exact(0.0), p.t, fl.JKO(), dt=h, save_at=[1.5])
        return np.abs(sol.u[-1] - p.exact(1.5)).max()

    study = fl.convergence(error, [0.05, 0.025, 0.0125, 0.00625])
    assert study.slope == pytest.approx(1.0, abs=0.05)


def test_a_plateau_sinks_with_twice_its_inverse_length():
    p = problems.total_variation([0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    # 3 - t meets 0 + 2 t/8 (both sides rise at 1/4 each).
    assert p.constants["merges"] == pytest.approx([2.4])
    assert p.exact(1.0) == pytest.approx([0.25] * 4 + [2.0] * 2 + [0.25] * 4)
    assert p.exact(5.0) == pytest.approx([0.6] * 10)
    steps = problems.total_variation([0.0, 1.0, 5.0])
    assert steps.exact(1.0) == pytest.approx([1.0, 1.0, 4.0])
    assert problems.total_variation([2.0]).exact(7.0) == [2.0]


def test_the_simplex_path_ends_in_the_projection():
    p = problems.simplex_quadratic([0.9, 0.5, -0.6], [0.2, 0.3, 0.5])
    c = np.array([0.9, 0.5, -0.6])
    best = minimize(
        lambda x: 0.5 * np.sum((x - c) ** 2),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-15},
    ).x
    assert p.limit == pytest.approx(best, abs=1e-7)
    (death,) = p.constants["deaths"]
    # x3 = c3 - l + (x3(0) - c3 + l) e^{-t} with l = (sum c - 1)/3.
    goal = -0.6 - (0.8 - 1.0) / 3
    assert death == pytest.approx(math.log((0.5 - goal) / -goal))
    for t in (0.1, death, 3.0):
        assert p.exact(t).sum() == pytest.approx(1.0)
        assert p.exact(t).min() >= 0.0


def test_constants_say_when_paths_change():
    assert problems.huber(0.5, [2.0, -0.3]).constants["meets"] == pytest.approx([3, 0])
    assert problems.nuclear_norm([3.0, 1.0]).constants["extinction"] == pytest.approx(
        [3.0, 1.0]
    )
    assert problems.nuclear_norm([0.0]).t == (0.0, 1.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: problems.huber(0.0), "`delta` must be greater"),
        (lambda: problems.power_step(2.5, 1.0, 1.0), "closed form"),
        (lambda: problems.power_step(2.0, 1.0, 0.0), "`h` must be greater"),
        (lambda: problems.spectral_norm(np.ones((2, 2, 2))), "expected a matrix"),
        (lambda: problems.total_variation(np.ones((2, 2))), "one sequence"),
        (lambda: problems.box_quadratic(x0=[2.0, 0.0]), "within the bounds"),
        (lambda: problems.box_quadratic(a=[1.0, -1.0]), "`a` must be positive"),
        (lambda: problems.simplex_quadratic(x0=[0.5, 0.6, 0.1]), "of the simplex"),
        (lambda: problems.nuclear_norm().exact(-1.0), "known for t >= 0"),
    ],
)
def test_wrong_arguments_are_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()
