"""One table of costs: explicit and proximal steps minimize it in every geometry."""

import numpy as np
import pytest

import flows as fl
from flows.spaces.costs import linear_model

A = np.array([[2.0, 0.6, 0.1], [0.6, 1.5, 0.3], [0.1, 0.3, 1.0]])
V = fl.Potential("x1**2 + x1*x2/2 + 2*x2**2 + x3**4/4 + exp(x3)")
U = np.array([0.2, 0.5, 0.3])
M = fl.Potential("x1**2 + x1*x4/2 + 2*x2**2 + x3**4/4 + x4")
FLAT = {
    "plain": fl.Euclidean(),
    "weights": fl.Euclidean(metric=[1.0, 2.0, 0.5]),
    "matrix": fl.Euclidean(metric=A),
    "operator": fl.Euclidean(metric=fl.metrics.operator(lambda v: v @ A)),
}
MIRRORS = {
    "simplex": fl.Mirror.simplex(),
    "positive": fl.Mirror.positive(),
    "burg": fl.Mirror.burg(),
    "p_norm": fl.Mirror.p_norm(1.5),
}
NORMS = {
    f"{norm!r} {fast}": fl.SteepestDescent(norm, fast)
    for norm in (fl.norms.l1(), fl.norms.l2(), fl.norms.linf(), fl.norms.metric(A))
    for fast in (False, True)
}
SPACES = {**FLAT, **MIRRORS, **NORMS}


def one_step(space, scheme, h):
    return fl.solve(space.flow(V), U, (0, h), scheme, dt=h).u[-1]


def neighbors(space, v, size):
    """States around v."""
    moves = np.random.default_rng(0).normal(size=(400, v.size))
    if space is MIRRORS["simplex"]:
        moves -= moves.mean(axis=1, keepdims=True)
    others = v + size * moves
    if space in (MIRRORS["simplex"], MIRRORS["positive"], MIRRORS["burg"]):
        others = others[(others > 0).all(axis=1)]
    assert len(others) > 20
    return others


@pytest.mark.parametrize("name", SPACES)
def test_explicit_euler_is_the_step_of_the_cost_and_minimizes_it(name):
    space, h = SPACES[name], 0.05
    g = V.gradient_at(U, 0.0)
    v = one_step(space, fl.Euler(), h)
    assert np.allclose(v, space.cost.step(U, g, h), rtol=1e-13)
    best = linear_model(space.cost, U, v, g, h)
    for size in (1e-1, 1e-3):
        others = neighbors(space, v, size)
        assert (linear_model(space.cost, U, others, g, h) >= best - 1e-13).all()


@pytest.mark.parametrize("name", [*FLAT, *MIRRORS])
def test_the_proximal_step_minimizes_energy_plus_cost(name):
    space, h = SPACES[name], 0.3
    v = one_step(space, fl.MinimizingMovement(), h)

    def objective(w):
        return V.value_at(w, 0.0) + space.cost.value(U, w, h)

    others = neighbors(space, v, 1e-2)
    assert (objective(others) >= objective(v) - 1e-13).all()


def test_matrices_in_the_spectral_norm_take_the_step_of_their_cost():
    space, X = fl.SteepestDescent(fl.norms.spectral(2, 2)), np.eye(2) + 0.3
    v = fl.solve(space.flow(M), X, (0, 0.1), fl.Euler(), dt=0.1).u[-1]
    z = space.flatten(X)
    step = space.cost.step(z, M.gradient_at(z, 0.0), 0.1)
    assert np.allclose(space.flatten(v), step, rtol=1e-13)


def test_a_metric_that_depends_on_the_point_has_no_cost():
    space = fl.Euclidean(metric=lambda x: np.eye(3) + 0.0 * x[..., None])
    with pytest.raises(TypeError, match="must be constant"):
        space.cost  # noqa: B018
