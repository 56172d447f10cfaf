"""Steepest descent in norms: directions, costs, closed forms up to extinction."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

import flows as fl
from flows.spaces.costs import NormCost, linear_model

M = np.array([[2.0, 0.5], [0.5, 1.0]])
NORMS = [
    fl.norms.l1(),
    fl.norms.l2(),
    fl.norms.linf(),
    fl.norms.spectral(3, 2),
    fl.norms.metric([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    fl.norms.metric(np.kron(np.eye(3), M)),
    fl.norms.metric(2.0),
]
named = pytest.mark.parametrize("norm", NORMS, ids=lambda n: type(n).__name__)
G = np.random.default_rng(0).normal(size=(40, 6))
PROBLEMS = {
    "sign_flow": fl.norms.linf(),
    "greedy_flow": fl.norms.l1(),
    "normalized_flow": fl.norms.l2(),
    "spectral_flow": fl.norms.spectral(3, 2),
}


def end(flow, u0, t, scheme, dt):
    return fl.solve(flow, u0, (0, t), scheme, dt=dt).u[-1]


@named
def test_the_direction_attains_the_dual_norm(norm):
    d = norm.direction(G)
    assert np.allclose(norm.value(d), 1.0, rtol=1e-13)
    assert np.allclose((G * d).sum(-1), norm.dual(G), rtol=1e-13)


@named
def test_the_dual_norm_bounds_every_product(norm):
    d = np.random.default_rng(1).normal(size=(200, 1, 6))
    products = (G * d).sum(-1) / norm.value(d)
    assert (products <= norm.dual(G) * (1 + 1e-13)).all()


@named
def test_the_linear_model_falls_by_epsilon_times_the_dual_norm(norm):
    """Over norm(v - u) <= e: e |g|_2 for l2, e |g|_1 for linf, e |g|_inf for l1."""
    cost, u, e = NormCost(norm, unit_speed=True), np.zeros_like(G), 0.1
    v = cost.step(u, G, e)
    assert np.allclose(linear_model(cost, u, v, G, e), -e * norm.dual(G), rtol=1e-13)


@named
@pytest.mark.parametrize("unit_speed", [False, True])
def test_the_explicit_step_minimizes_linear_model_plus_cost(norm, unit_speed):
    cost, h = NormCost(norm, unit_speed), 0.3
    u = np.random.default_rng(2).normal(size=6)
    for g in G[:5]:
        v = cost.step(u, g, h)
        best = linear_model(cost, u, v, g, h)
        assert best == pytest.approx(-h * cost.conjugate(g), rel=1e-12)
        rng = np.random.default_rng(3)
        for size in (1e-3, 0.1, 1.0):
            others = v + size * rng.normal(size=(200, 6))
            assert (linear_model(cost, u, others, g, h) >= best - 1e-13).all()


@named
def test_the_steepest_velocity_is_safe_at_zero_and_at_tiny_slopes(norm):
    for unit_speed in (False, True):
        cost = NormCost(norm, unit_speed)
        assert not cost.velocity(np.zeros(6)).any()
        tiny = cost.velocity(np.full(6, 1e-200))
        assert np.isfinite(tiny).all()
    assert norm.value(norm.direction(np.full(6, 1e-200))) == pytest.approx(1.0)


def test_the_five_directions_are_what_they_are_called():
    g = np.array([3.0, -4.0, 0.0, 0.0, 0.0, 0.0])
    directions = [n.direction(g) for n in NORMS[:3]]
    assert directions[0].tolist() == [0, -1, 0, 0, 0, 0]
    assert np.allclose(directions[1], g / 5)
    assert directions[2].tolist() == [1, -1, 0, 0, 0, 0]
    U, _, Vh = np.linalg.svd(G[0].reshape(3, 2), full_matrices=False)
    assert np.allclose(NORMS[3].direction(G[0]), (U @ Vh).ravel())
    rank_one = np.outer([1.0, 2.0, 2.0], [0.6, 0.8])
    assert np.allclose(NORMS[3].direction(rank_one.ravel()), rank_one.ravel() / 3)
    slope = np.kron(np.eye(3), np.linalg.inv(M)) @ G[0]
    assert np.allclose(NORMS[5].direction(G[0]), slope / np.sqrt(G[0] @ slope))


def test_ties_share_the_step_evenly():
    d = fl.norms.l1().direction(np.array([2.0, -2.0, 1.0]))
    assert d.tolist() == [0.5, -0.5, 0.0]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("unit_speed", [True, False])
def test_closed_forms_solve_their_equation(name, unit_speed):
    """Their derivative, by differences, is a steepest velocity at their state."""
    p = getattr(fl.problems, name)(unit_speed=unit_speed)
    space = fl.SteepestDescent(PROBLEMS[name], unit_speed)
    flow, e = space.flow(p.energy), 1e-6
    for t in (0.11, 0.53, 0.97, 1.31, 1.47):
        u = p.exact(t)
        v = (p.exact(t + e) - p.exact(t - e)) / (2 * e)
        g = space.points(u - p.limit)
        speed = float(space.norm.value(space.points(v)))
        dual = float(space.norm.dual(g))
        assert speed == pytest.approx(1.0 if unit_speed else dual, rel=1e-6)
        # The velocity is steepest: <g, v> = -norm(v) |g|_*.
        assert float(g @ space.points(v)) == pytest.approx(-speed * dual, rel=1e-6)
        assert flow.energy(0.0, u) == pytest.approx(p.exact_energy(t), rel=1e-12)
        fall = (p.exact_energy(t + e) - p.exact_energy(t - e)) / (2 * e)
        slid = float(flow.dissipation(0.0, space.points(u)))
        assert fall == pytest.approx(-slid, rel=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("unit_speed", [True, False])
def test_explicit_euler_has_order_one_up_to_extinction(name, unit_speed):
    make = getattr(fl.problems, name)
    center = 0.1 * np.random.default_rng(4).normal(size=np.shape(make().limit))
    p = make(center=center, unit_speed=unit_speed)
    space = fl.SteepestDescent(PROBLEMS[name], unit_speed)
    # Before the first length is extinct, for the greedy flow beyond the first tie.
    T = 2.0 if name == "greedy_flow" else 0.25 if unit_speed else 0.08

    def error(h):
        return np.abs(
            end(space.flow(p.energy), p.exact(0.0), T, fl.Euler(), h) - (p.exact(T))
        ).max()

    sizes = [T / n for n in (64, 96, 128, 192, 256, 384)]
    errors = np.array([error(h) for h in sizes])
    if errors.max() < 1e-13:
        assert unit_speed
        assert name != "greedy_flow"
    elif name == "greedy_flow":
        # Ties chatter with the step: first order as a bound, not as a slope.
        assert (errors <= 1.5 * np.array(sizes)).all()
    else:
        slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
        assert 0.9 < slope < 1.1


@pytest.mark.parametrize("name", PROBLEMS)
def test_flows_at_unit_speed_are_extinct_when_theory_says_and_chatter_by_h(name):
    p = getattr(fl.problems, name)()
    T, h = p.constants["extinction"], 1 / 128
    assert math.isinf(
        getattr(fl.problems, name)(unit_speed=False).constants["extinction"]
    )
    assert np.abs(p.exact(T * (1 - 1e-9)) - p.limit).max() < 1e-8
    assert np.abs(p.exact(T + 1.0) - p.limit).max() == 0
    flow = fl.SteepestDescent(PROBLEMS[name], unit_speed=True).flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), (0, T + 0.5), fl.Euler(), dt=h)
    late = sol.u[sol.t > T + 0.1]
    space = fl.SteepestDescent(PROBLEMS[name])
    assert max(np.ravel(space.distance(u, p.limit))[0] for u in late) < 1.01 * h * (
        3 if name == "greedy_flow" else 1
    )


def test_signs_do_not_see_curvature():
    energy = fl.Potential("50*x**2 + y**4 + cosh(z)")
    flow = fl.SteepestDescent(fl.norms.linf(), unit_speed=True).flow(energy)
    x0 = np.array([2.0, -1.5, 1.0])
    assert np.allclose(
        end(flow, x0, 0.75, fl.Euler(), 0.05), np.sign(x0) * (np.abs(x0) - 0.75)
    )


def test_the_greedy_flow_of_a_quadratic_is_coordinate_descent():
    flow = fl.SteepestDescent(fl.norms.l1()).flow(fl.quadratic([1.0, 3.0]))
    u = end(flow, np.array([1.0, 1.0]), 0.1, fl.Euler(), 0.1)
    assert np.allclose(u, [1.0, 1.0 - 0.1 * 3.0])


def test_the_metric_flow_is_the_natural_gradient_flow():
    """With M the Hessian it is Newton's flow, e^{-t} in every direction."""
    A = np.array([[3.0, 1.0], [1.0, 2.0]])
    flow = fl.SteepestDescent(fl.norms.metric(A)).flow(fl.quadratic(A))
    assert flow.is_gradient
    x0 = np.array([1.0, -2.0])
    assert np.abs(
        fl.solve(flow, x0, (0, 1), dt=fl.Adaptive(rtol=1e-10)).u[-1] - x0 * np.exp(-1)
    ).max() < (1e-9)
    v = flow.velocity(0.0, x0)
    assert flow.inner(x0, v, v) == pytest.approx(flow.dissipation(0.0, x0))


def test_matrices_and_batches_and_tensors():
    p = fl.problems.spectral_flow()
    flow = fl.SteepestDescent(fl.norms.spectral(3, 2), unit_speed=True).flow(
        fl.Potential(lambda W: (W**2).sum((-2, -1)) / 2)
    )
    starts = np.stack([p.exact(0.0), np.zeros((3, 2))])
    both = end(flow, starts, 0.5, fl.Euler(), 0.1)
    assert np.abs(both[0] - p.exact(0.5)).max() < 1e-14
    assert not both[1].any()
    tensors = end(flow, torch.tensor(starts).float(), 0.5, fl.Euler(), 0.1)
    assert tensors.dtype == torch.float32
    assert np.abs(tensors.numpy() - both).max() < 1e-6
    for norm in NORMS[:3]:
        u = end(
            fl.SteepestDescent(norm).flow(fl.Potential("r**2/2")),
            torch.tensor([[1.0, -2.0], [0.0, 0.0]]),
            0.5,
            fl.Euler(),
            0.1,
        )
        assert u.dtype == torch.float32
        assert not u[1].any()


def test_distances_are_norms():
    u, v = np.array([[1.0, -2.0], [0.0, 3.0]]), np.zeros((2, 2))
    values = {
        fl.norms.l1(): [3.0, 3.0],
        fl.norms.l2(): [np.sqrt(5), 3.0],
        fl.norms.linf(): [2.0, 3.0],
        fl.norms.metric([4.0, 1.0]): [np.sqrt(8), 3.0],
    }
    for norm, expected in values.items():
        space = fl.SteepestDescent(norm)
        assert np.allclose(space.distance(u, v), expected)
        assert isinstance(space.distance(u[0], v[0]), float)
    assert fl.SteepestDescent(fl.norms.spectral(2, 2)).distance(u, v) == pytest.approx(
        np.linalg.norm(u, 2)
    )


def test_what_has_no_meaning_is_refused():
    sign = fl.SteepestDescent(fl.norms.linf())
    flow, x = sign.flow(fl.Potential("r**2")), np.array([1.0, 2.0])
    with pytest.raises(TypeError, match=r"no implicit step in.*Euclidean\(metric"):
        end(flow, x, 1.0, fl.ImplicitEuler(), 0.1)
    with pytest.raises(TypeError, match="no implicit step"):
        end(flow, x, 1.0, fl.JKO(), 0.1)
    with pytest.raises(TypeError, match="no default scheme"):
        fl.solve(flow, x, (0, 1))
    with pytest.raises(TypeError, match="comes from no inner product"):
        flow.inner(x, x, x)
    with pytest.raises(TypeError, match="takes no drift"):
        sign.flow(fl.Potential("x"), drift=lambda x: x)
    with pytest.raises(TypeError, match="SteepestDescent cannot represent"):
        sign.flow(fl.Entropy(1.0))
    with pytest.raises(TypeError, match=r"`norm` must be fl\.norms\.l1"):
        fl.SteepestDescent("linf")
    with pytest.raises(TypeError, match="`unit_speed` must be True or False"):
        fl.SteepestDescent(fl.norms.linf(), 1)
    with pytest.raises(ValueError, match=r"takes \(n,\), one point"):
        end(flow, np.ones((2, 2, 2)), 1.0, fl.Euler(), 0.1)
    metric = fl.SteepestDescent(fl.norms.metric([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="3 weights, but the state has 2"):
        end(metric.flow(fl.Potential("r**2")), x, 1.0, fl.Euler(), 0.1)
    spectral = fl.SteepestDescent(fl.norms.spectral(3, 2))
    with pytest.raises(ValueError, match=r"takes \(3, 2\), one matrix"):
        end(spectral.flow(fl.Potential("r**2")), x, 1.0, fl.Euler(), 0.1)


@pytest.mark.parametrize(
    ("M", "match"),
    [
        (np.ones((2, 3)), "must be a square matrix"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "must be symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "smallest eigenvalue is -1"),
        ([1.0, 0.0], "positive finite weights"),
    ],
)
def test_metrics_must_be_positive_definite(M, match):
    with pytest.raises(ValueError, match=match):
        fl.norms.metric(M)


@pytest.mark.parametrize("metric", [None, lambda x: np.eye(2) + 0.0 * x[..., None]])
def test_the_metric_of_a_norm_is_constant(metric):
    with pytest.raises(TypeError, match="must be constant"):
        fl.norms.metric(metric)


def test_problems_refuse_batches_and_misfits():
    with pytest.raises(ValueError, match=r"expected one point \(n,\)"):
        fl.problems.sign_flow(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"expected \(3, 2\)"):
        fl.problems.spectral_flow(center=np.eye(2))
    with pytest.raises(ValueError, match="t >= 0"):
        fl.problems.greedy_flow().exact(-1.0)


def test_spaces_pickle_and_print_as_typed():
    for norm in NORMS[:5]:
        space = fl.SteepestDescent(norm, unit_speed=True)
        again = pickle.loads(pickle.dumps(space))
        assert repr(again) == repr(space)
        assert repr(eval(f"fl.{space!r}".replace("(norms", "(fl.norms"))) == repr(space)
    p = pickle.loads(pickle.dumps(fl.problems.greedy_flow()))
    assert np.array_equal(p.exact(1.3), fl.problems.greedy_flow().exact(1.3))


@pytest.mark.parametrize(
    ("norm", "u0"),
    [
        (fl.norms.spectral(2, 2), [[2.0, 1.0], [0.0, 1.0]]),
        (fl.norms.linf(), [2.0, 1.0]),
    ],
)
def test_adaptive_steps_that_shrink_at_a_jump_ask_for_a_number_dt(norm, u0):
    flow = fl.SteepestDescent(norm).flow(fl.quadratic())
    with pytest.raises(fl.SolveError, match=r"directions of .* jump.*dt=0\.01") as e:
        fl.solve(
            flow,
            np.array(u0),
            (0, 5),
            fl.DormandPrince(),
            dt=fl.Adaptive(max_steps=500),
        )
    assert "stiff" not in str(e.value)
