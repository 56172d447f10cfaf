"""Symmetric positive definite matrices with the affine-invariant metric."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import flows as fl

TIGHT = fl.Adaptive(rtol=1e-12, atol=1e-13)


def end(flow, u0, t, scheme, dt):
    return fl.solve(flow, u0, (0, t), scheme, dt=dt).u[-1]


def positive(n, seed):
    M = np.random.default_rng(seed).normal(size=(n, n))
    return M @ M.T + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_precisions_relax_linearly(n):
    p = fl.problems.log_determinant(positive(n, 0), positive(n, 1))
    sol = fl.solve(fl.SPD(n).flow(p.energy), p.exact(0.0), p.t, fl.DOP853(), dt=TIGHT)
    for t, u, e in zip(sol.t, sol.u, sol.energy, strict=True):
        assert np.abs(u - p.exact(t)).max() < 1e-9 * np.abs(u).max()
        assert e == pytest.approx(p.exact_energy(t), abs=1e-9)
    assert np.abs(p.exact(50.0) - p.limit).max() < 1e-12


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        (fl.Euler(), 16),
        (fl.Heun(), 16),
        (fl.BogackiShampine(), 16),
        (fl.RK4(), 16),
        (fl.Tsit5(), 8),
        (fl.DOP853(), 3),
    ],
)
def test_explicit_schemes_keep_their_order(scheme, first):
    p = fl.problems.log_determinant()
    flow = fl.SPD(2).flow(p.energy)

    def error(h):
        return np.linalg.norm(end(flow, p.exact(0.0), 1.0, scheme, h) - p.exact(1.0))

    steps = [1 / n for n in (first, 2 * first, 3 * first, 4 * first)]
    slope = fl.convergence(error, steps).slope
    assert (
        scheme.order - 0.15 < slope < scheme.order + (1.1 if scheme.order > 4 else 0.3)
    )


def test_states_are_positive_definite_at_every_step_size():
    p = fl.problems.log_determinant([[2.0, 0.5], [0.5, 1.0]], 1e3 * np.eye(2))
    flow = fl.SPD(2).flow(p.energy)
    for dt in (0.5, 5.0):
        sol = fl.solve(flow, p.exact(0.0), (0, 10), fl.RK4(), dt=1e-3 * dt)
        assert (np.linalg.eigvalsh(sol.u) > 0).all()
    rough = next(
        u for t, u in fl.steps(flow, p.exact(0.0), fl.Euler(), dt=0.01) if t > 0
    )
    assert (np.linalg.eigvalsh(rough) > 0).all()


def test_the_geodesic_distance_does_not_depend_on_coordinates():
    space, X, Y = fl.SPD(3), positive(3, 4), positive(3, 5)
    A = np.random.default_rng(6).normal(size=(3, 3))
    there = space.distance(X, Y)
    assert space.distance(A @ X @ A.T, A @ Y @ A.T) == pytest.approx(there, rel=1e-10)
    assert space.distance(X, np.e * X) == pytest.approx(np.sqrt(3))
    assert fl.SPD(1).distance(np.array([[2.0]]), np.array([[6.0]])) == pytest.approx(
        np.log(3)
    )


def test_the_flow_does_not_depend_on_coordinates():
    X, A = positive(3, 4), np.random.default_rng(6).normal(size=(3, 3))
    inverse, C = np.linalg.inv(A), positive(3, 7)
    p = fl.problems.log_determinant(C, X)
    q = fl.problems.log_determinant(inverse.T @ C @ inverse, A @ X @ A.T)
    u = end(fl.SPD(3).flow(p.energy), X, 1.0, fl.DOP853(), TIGHT)
    v = end(fl.SPD(3).flow(q.energy), q.exact(0.0), 1.0, fl.DOP853(), TIGHT)
    assert np.abs(A @ u @ A.T - v).max() < 1e-9


def test_the_velocity_is_the_derivative_of_the_logarithm():
    space = fl.SPD(3)
    C = np.random.default_rng(8).normal(size=(3, 3))
    flow = space.flow(
        fl.Potential(lambda X: (X * C).sum((-2, -1)), gradient=lambda X: C + 0 * X)
    )
    X, e = positive(3, 9), 1e-6
    dX = -X @ (C + C.T) @ X / 2
    change = (flow.encode(X + e * dX) - flow.encode(X - e * dX)) / (2 * e)
    z = flow.encode(X)
    v = flow.velocity(0.0, z)
    assert np.abs(v - change).max() < 1e-7
    inverse = np.linalg.inv(X)
    assert flow.inner(z, v, v) == pytest.approx(
        np.trace(inverse @ dX @ inverse @ dX), rel=1e-10
    )


def test_gradient_and_dissipation_pass_the_library_s_own_checks():
    p = fl.problems.log_determinant(positive(3, 2), positive(3, 3))
    flow = fl.SPD(3).flow(p.energy)
    assert fl.check_gradient(flow, p.exact(0.0)).slope == pytest.approx(2.0, abs=0.05)
    sol = fl.solve(flow, p.exact(0.0), (0, 1), fl.RK4(), dt=1 / 256)
    assert fl.theory.check_dissipation(sol, 1e-4)
    assert fl.check_descent(sol)


def test_far_eigenvalues_do_not_overflow():
    X = np.diag([1e-150, 1.0, 1e150])
    flow = fl.SPD(3).flow(fl.Potential(lambda X: X[..., 1, 1] + 0 * X[..., 0, 0]))
    z = flow.encode(X)
    assert np.isfinite(flow.velocity(0.0, z)).all()
    assert np.allclose(flow.decode(z), X, rtol=1e-12)


def test_batches_and_tensors_move_as_one_state():
    p = fl.problems.log_determinant()
    flow = fl.SPD(2).flow(p.energy)
    starts = np.stack([p.exact(0.0), np.eye(2)])
    both = end(flow, starts, 1.0, fl.RK4(), 0.02)
    assert np.abs(both[0] - p.exact(1.0)).max() < 1e-7
    tensors = end(flow, torch.tensor(starts), 1.0, fl.RK4(), 0.02)
    assert np.abs(tensors.numpy() - both).max() < 1e-12
    single = end(flow, torch.tensor(starts).float(), 1.0, fl.RK4(), 0.02)
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - both).max() < 1e-5
    z = flow.encode(starts)
    assert flow.norm(z).shape == flow.inner(z, z, z).shape == (2,)


def test_a_drift_is_a_force():
    space = fl.SPD(2)
    forced = space.flow(fl.Potential(0.0), drift=np.linalg.inv)
    assert not forced.is_gradient
    assert np.abs(
        end(forced, np.eye(2), 1.0, fl.RK4(), 0.1) - np.e * np.eye(2)
    ).max() < (1e-12)


def test_starts_and_steps_that_have_no_meaning_are_refused():
    space = fl.SPD(2)
    flow = space.flow(fl.Potential("x1 + x4"))
    with pytest.raises(ValueError, match=r"not symmetric: .* up to 1; give"):
        end(flow, np.array([[2.0, 1.0], [0.0, 2.0]]), 1.0, fl.Euler(), 0.1)
    with pytest.raises(ValueError, match=r"has the eigenvalue -1; add a multiple"):
        end(flow, np.diag([1.0, -1.0]), 1.0, fl.Euler(), 0.1)
    with pytest.raises(ValueError, match=r"takes \(2, 2\), one matrix"):
        end(flow, np.eye(3), 1.0, fl.Euler(), 0.1)
    for scheme in (fl.ImplicitEuler(), fl.JKO()):
        with pytest.raises(TypeError, match="no implicit step in"):
            end(flow, np.eye(2), 1.0, scheme, 0.1)
    with pytest.raises(TypeError, match="SPD cannot represent"):
        space.flow(fl.Entropy(1.0))
    with pytest.raises(TypeError, match="`drift` must be callable"):
        space.flow(fl.Potential("x1"), drift=1.0)
    with pytest.raises(ValueError, match="`C` must be positive definite"):
        fl.problems.log_determinant(-np.eye(2))


def test_it_pickles_and_prints_as_typed():
    space = fl.SPD(2, dtype="float32")
    assert repr(space) == "SPD(2, dtype='float32')"
    assert pickle.loads(pickle.dumps(space)) == space
    p = pickle.loads(pickle.dumps(fl.problems.log_determinant()))
    flow = pickle.loads(pickle.dumps(fl.SPD(2).flow(p.energy)))
    assert flow.energy(0.0, p.exact(1.0)) == p.exact_energy(1.0)
