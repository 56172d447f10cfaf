"""Every space that can be written comes back from a file of a run."""

import numpy as np
import pytest

import flows as fl

A = np.array([[2.0, 0.3], [0.3, 1.0]])
X, P = np.array([0.4, 0.6]), np.array([[1.5, 0.2], [0.2, 1.0]])
R2 = fl.Potential("r**2/2")
NAMES = "cholesky", "covariance", "moments", "natural"
CHARTS = [getattr(fl.metrics, f"fisher_{name}")(1) for name in NAMES]
CASES = [
    *((m, X) for m in (fl.Mirror.simplex(), fl.Mirror.positive(), fl.Mirror.burg())),
    (fl.Mirror.p_norm(1.5, dtype="float64"), X),
    *((fl.SteepestDescent(f(), True), X) for f in (fl.norms.l1, fl.norms.linf)),
    (fl.SteepestDescent(fl.norms.l2()), X),
    (fl.SteepestDescent(fl.norms.metric(A)), X),
    (fl.SteepestDescent(fl.norms.metric([1.0, 3.0])), X),
    (fl.SteepestDescent(fl.norms.spectral(2, 2)), P),
    *((fl.Euclidean(metric=m), X) for m in (2.0, [1.0, 3.0], A)),
    *((fl.Euclidean(metric=m), m.pack(0.5, 0.8)) for m in CHARTS),
    (fl.Euclidean(metric=fl.metrics.fisher_softmax()), X),
    (fl.Euclidean(metric=fl.metrics.fisher_categorical()), X),
    (fl.Euclidean(bounds=fl.bounds.projection(0.0)), X),
    (fl.Euclidean(bounds=fl.bounds.logarithm([0.0, -np.inf], [1.0, 2.0])), X),
    (fl.Euclidean(bounds=fl.bounds.rejection(-1.0, 2.0)), X),
    (fl.Euclidean(jacobian=fl.Krylov()), X),
    (fl.Euclidean(jacobian=fl.Banded(1, 1)), X),
    (fl.Sphere(), X / np.linalg.norm(X)),
    (fl.Stiefel(2, 2), np.eye(2)),
    (fl.Matrices(2, 2), P),
    (fl.SPD(2), P),
    (fl.HeavyBall(0.5), np.append(X, X)),
    (fl.Nesterov(4.0), np.append(X, 0 * X)),
]


def saved(space, u0, path):
    sol = fl.solve(space.flow(R2), u0, (0.0, 0.1), fl.Euler(), dt=0.05)
    return sol, fl.load(sol.save(path))


@pytest.mark.parametrize(("space", "u0"), CASES, ids=lambda a: repr(a)[:50])
def test_spaces_come_back_from_a_file(space, u0, tmp_path):
    sol, loaded = saved(space, u0, tmp_path / "run.npz")
    assert type(loaded.space) is type(space)
    assert repr(loaded.space) == repr(space)
    flows = space.flow(R2), loaded.space.flow(R2)
    z = flows[0].encode(u0) if hasattr(flows[0], "encode") else u0
    assert np.array_equal(*(flow.velocity(0.0, z) for flow in flows))
    assert np.array_equal(loaded.u, sol.u)


def slow_metric(x):
    return np.eye(2) * (1.0 + x[..., 0] ** 2)[..., None, None]


def test_a_space_with_a_python_function_comes_back_with_its_flow(tmp_path):
    space = fl.Euclidean(metric=slow_metric)
    sol, loaded = saved(space, X, tmp_path / "run.npz")
    assert loaded.space is None
    with pytest.raises(TypeError, match=r"load\(path, flow\)"):
        loaded.measure()
    assert fl.load(tmp_path / "run.npz", sol.flow).space is space
