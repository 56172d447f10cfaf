"""Spheres, orthonormal matrices, all matrices, and their closed forms."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import flows as fl
from flows.flow import offers

A = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.5], [0.0, 0.5, -1.0]])
X3 = np.array([0.6, 0.0, 0.8])
TIGHT = fl.Adaptive(rtol=1e-12, atol=1e-13)
EXPLICIT = [
    fl.Euler(),
    fl.Heun(),
    fl.BogackiShampine(),
    fl.RK4(),
    fl.DormandPrince(),
    fl.Tsit5(),
    fl.DOP853(),
]
STEPS = {1: 64, 2: 32, 3: 24, 4: 16, 5: 32, 8: 6}


def end(flow, u0, t, scheme, dt):
    return fl.solve(flow, u0, (0, t), scheme, dt=dt).u[-1]


def orthonormal(n, k, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, k))).Q


def has_order(scheme, error):
    """Slope over four steps; above order 4 leading constants are small, so it is high.

    The order cannot be mistaken: one less is outside of the window.
    """
    steps = [1 / (STEPS[scheme.order] * m) for m in (1, 1.5, 2, 3)]
    slope = fl.convergence(error, steps).slope
    above = 0.2 if scheme.order <= 4 else 1.1
    return (
        scheme.order - (0.5 if scheme.order == 8 else 0.1)
        < slope
        < (scheme.order + above)
    )


@pytest.mark.parametrize("scheme", EXPLICIT)
def test_explicit_schemes_keep_their_order_on_the_sphere(scheme):
    flow = fl.Sphere().flow(fl.Potential("x**4 + 2*y**2*z - 3*x*z + exp(y)"))
    starts = np.array([[0.6, 0, 0.8], [-0.5, 0.7, 0.1], [0.3, -0.6, 0.4]])
    starts = starts / np.linalg.norm(starts, axis=-1, keepdims=True)
    exact = end(flow, starts, 1.0, fl.DOP853(), fl.Adaptive(rtol=3e-14, atol=1e-15))

    def error(h):
        u = end(flow, starts, 1.0, scheme, h)
        assert np.abs(np.linalg.norm(u, axis=-1) - 1).max() < 1e-15
        return np.linalg.norm(u - exact)

    assert has_order(scheme, error)


@pytest.mark.parametrize("scheme", EXPLICIT)
def test_explicit_schemes_keep_their_order_on_orthonormal_matrices(scheme):
    p = fl.problems.toda((0.0, 1.0, -1.0, 0.5), (0.7, 0.5, 0.9), t=(0, 1))
    flow = fl.Stiefel(4, 4).flow(p.energy)

    def error(h):
        Q = end(flow, np.eye(4), 1.0, scheme, h)
        assert np.abs(Q.T @ Q - np.eye(4)).max() < 1e-13
        return np.linalg.norm(Q - p.exact(1.0))

    assert has_order(scheme, error)


def test_the_velocity_is_tangent_also_off_the_sphere():
    flow = fl.Sphere().flow(fl.Potential("x**4 + 2*y**2*z - 3*x*z"))
    for size in (0.5, 1.0, 2.0):
        z = size * X3
        assert abs(z @ flow.velocity(0.0, z)) < 1e-15


def test_the_velocity_on_orthonormal_matrices_is_tangent_and_descends():
    space = fl.Stiefel(4, 2)
    p = fl.problems.oja_subspace(k=2)
    flow, X = space.flow(p.energy), orthonormal(4, 2)
    z = flow.encode(X)
    v = flow.velocity(0.0, z)
    D = flow.decode(v)
    assert np.abs(X.T @ D + D.T @ X).max() < 1e-14
    e = 1e-5
    ahead, behind = (
        flow.energy(0.0, flow.decode(flow.retract(z + s * e * v))) for s in (1, -1)
    )
    assert (ahead - behind) / (2 * e) == pytest.approx(-flow.inner(z, v, v), rel=1e-8)


@pytest.mark.parametrize(
    "p",
    [
        fl.problems.rayleigh(A, [[0.6, 0.0, 0.8], [0.1, -0.2, 3.0]]),
        fl.problems.rayleigh([3.0, 3.0, -1.0], [0.1, 0.5, 1.0]),
        fl.problems.sphere_linear([1.0, -2.0, 0.5], [[0.6, 0.0, 0.8], [1.0, 1.0, 0.0]]),
    ],
    ids=["rayleigh", "double eigenvalue", "linear"],
)
def test_closed_forms_on_the_sphere_agree_with_integration(p):
    flow = fl.Sphere().flow(p.energy)
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.DOP853(), dt=TIGHT)
    for t, u, e in zip(sol.t, sol.u, sol.energy, strict=True):
        assert np.abs(u - p.exact(t)).max() < 1e-10
        assert np.allclose(e, p.exact_energy(t), atol=1e-10)
    assert np.abs(p.exact(100.0) - p.limit).max() < 1e-12
    assert sol.stats["energy_rises"] == 0


def test_the_exact_flow_on_the_sphere_is_the_rayleigh_flow():
    p = fl.problems.rayleigh(A, [[0.6, 0.0, 0.8], [0.1, -0.2, 3.0]])
    flow = fl.Sphere().flow(p.energy)
    assert np.abs(end(flow, p.exact(0), 2.0, fl.Exact(), 0.5) - p.exact(2)).max() < (
        1e-14
    )
    assert np.isfinite(end(flow, p.exact(0), 1e4, fl.Exact(), 1e4)).all()
    with pytest.raises(TypeError, match=r"quadratic\(A\) alone"):
        end(fl.Sphere().flow(fl.Potential("-z")), X3, 1.0, fl.Exact(), 0.1)


def test_the_power_method_is_the_sampled_rayleigh_flow():
    W = np.array([[2.0, -1.0, 0.3], [-1.0, 2.0, 0.5], [0.1, 0.2, 1.0]])
    values, vectors = np.linalg.eigh(W.T @ W)
    p = fl.problems.rayleigh((vectors * np.log(values)) @ vectors.T, X3)
    u = X3
    for k in range(1, 6):
        u = W.T @ W @ u
        u = u / np.linalg.norm(u)
        assert np.abs(p.exact(k) - u).max() < 1e-14


def test_a_start_without_the_top_vector_never_finds_it():
    p = fl.problems.rayleigh([3.0, 2.0, -1.0], [0.0, 0.5, 1.0])
    assert p.limit.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("x0", [[0.2, 0.6, 1.5], [[0.1, 0.1, 0.1], [2.0, 0.0, 1.0]]])
def test_oja_flow_is_known_off_the_sphere(x0):
    p = fl.problems.oja(A + 2 * np.eye(3), x0)
    flow = fl.Euclidean().flow(p.energy, p.constants["drift"])
    sol = fl.solve(flow, np.array(x0), p.t, fl.DOP853(), dt=TIGHT)
    assert max(np.abs(u - p.exact(t)).max() for t, u in zip(sol.t, sol.u)) < 1e-10  # noqa: B905
    assert np.abs(np.linalg.norm(p.exact(50.0), axis=-1) - 1).max() < 1e-13


def test_oja_flow_of_a_negative_matrix_leaves_the_sphere():
    inside = fl.problems.oja([-1.0, -2.0], [0.5, 0.5])
    assert np.abs(inside.exact(20.0)).max() < 1e-8
    with pytest.raises(ValueError, match="blows up before t = 2"):
        fl.problems.oja([-1.0, -2.0], [2.0, 0.5]).exact(2.0)


def test_oja_subspaces_agree_with_integration():
    p = fl.problems.oja_subspace([4.0, 3.0, 1.0, 0.0], k=2)
    space = fl.Stiefel(4, 2)
    sol = fl.solve(space.flow(p.energy), p.exact(0.0), p.t, fl.DOP853(), dt=TIGHT)
    for t, X in zip(sol.t, sol.u, strict=True):
        assert space.angles(X, p.exact(t)).max() < 1e-10
    assert abs(
        space.flow(p.energy).energy(0, p.exact(60.0)) - p.constants["minimum"]
    ) < (1e-12)


def test_toda_flow_is_the_orthogonal_factor_of_the_exponential():
    p = fl.problems.toda(t=(0, 3))
    flow = fl.Stiefel(4, 4).flow(p.energy)
    sol = fl.solve(flow, np.eye(4), p.t, fl.DOP853(), dt=TIGHT)
    L0 = p.constants["L"]
    for t, Q in zip(sol.t, sol.u, strict=True):
        assert np.abs(Q - p.exact(t)).max() < 1e-10
        L = Q.T @ L0 @ Q
        assert np.abs(
            np.linalg.eigvalsh(L)[::-1] - p.constants["eigenvalues"]
        ).max() < (1e-13)
        assert np.abs(np.triu(L, 2)).max() < 1e-10
    end_of_all = p.exact(300.0)
    assert np.abs(
        np.diag(end_of_all.T @ L0 @ end_of_all) - p.constants["eigenvalues"]
    ).max() < (1e-12)


def test_the_exact_toda_path_is_one_factorization_where_that_is_stable():
    p = fl.problems.toda()
    values, V = np.linalg.eigh(p.constants["L"])
    Q, R = np.linalg.qr((V * np.exp(0.5 * values)) @ V.T)
    assert np.abs(Q * np.sign(np.diag(R)) - p.exact(0.5)).max() < 1e-14


def test_the_double_bracket_flow_sorts_the_eigenvalues():
    M = np.array([[1.0, 2.0, 0.5], [2.0, -1.0, 0.3], [0.5, 0.3, 0.7]])
    p = fl.problems.brockett(M, N=[1.0, 3.0, 2.0], t=(0, 40))
    flow = fl.Stiefel(3, 3).flow(p.energy)
    sol = fl.solve(flow, p.initial, p.t)
    L = sol.u[-1].T @ M @ sol.u[-1]
    assert np.abs(np.diag(L) - p.constants["eigenvalues"]).max() < 1e-6
    order = np.argsort(p.constants["eigenvalues"])
    assert order.tolist() == np.argsort([1.0, 3.0, 2.0]).tolist()
    assert sol.energy[-1] == pytest.approx(p.constants["minimum"], abs=1e-8)
    Q, N = p.initial, np.diag([1.0, 3.0, 2.0])
    commutator = M @ N - N @ M
    v = flow.decode(flow.velocity(0.0, flow.encode(Q)))
    assert np.abs(v - Q @ commutator / 2).max() < 1e-15


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 3)])
def test_the_orthogonality_flow_is_known(shape):
    W = np.random.default_rng(1).normal(size=shape) * 0.7
    p = fl.problems.orthogonality(W)
    flow = fl.Matrices(*shape).flow(p.energy)
    sol = fl.solve(flow, W, p.t, fl.DOP853(), dt=TIGHT)
    for t, u, e in zip(sol.t, sol.u, sol.energy, strict=True):
        assert np.abs(u - p.exact(t)).max() < 1e-10
        assert e == pytest.approx(p.exact_energy(t), abs=1e-10)
    assert np.abs(p.exact(5.0) - p.limit).max() < 1e-12
    implicit = end(flow, W, 0.5, fl.TRBDF2(), 0.01)
    assert np.abs(implicit - p.exact(0.5)).max() < 1e-3


def test_a_singular_value_of_zero_stays_zero():
    p = fl.problems.orthogonality([[2.0, 0.0], [0.0, 0.0]])
    assert np.abs(p.exact(9.0) - [[1, 0], [0, 0]]).max() < 1e-14


@pytest.mark.parametrize("name", ["orthogonality", "oja_subspace", "toda"])
def test_analytic_derivatives_of_matrix_problems(name):
    p = getattr(fl.problems, name)()
    term = p.energy
    X = np.random.default_rng(3).normal(size=(5, *p.exact(0.1).shape))
    E = np.random.default_rng(4).normal(size=p.exact(0.1).shape)
    form, e = term.function, 1e-5
    change = (form.function(X + e * E) - form.function(X - e * E)) / (2 * e)
    assert np.allclose((form.first(X) * E).sum((-2, -1)), change, rtol=1e-7, atol=1e-8)
    change = (form.first(X + e * E) - form.first(X - e * E)) / (2 * e)
    product = (form.second(X) * E).sum((-2, -1))
    assert np.allclose(product, change, rtol=1e-7, atol=1e-7)


def test_matrices_reuse_everything_of_vectors():
    flow = fl.Matrices(3, 2).flow(fl.problems.orthogonality().energy)
    assert offers(flow, "resolvent")
    assert offers(flow, "prox")
    assert not hasattr(flow, "exact")
    W = np.array([[1.5, 0.2], [0.3, 0.4], [-0.2, 0.1]])
    quadratic = fl.Matrices(3, 2).flow(fl.quadratic(2.0))
    assert np.allclose(end(quadratic, W, 1.0, fl.Exact(), 1.0), W * np.exp(-2))
    named = fl.Matrices(3, 2).flow(fl.Potential("x1**2 + x6**2 + 0*r**2"))
    assert np.allclose(named.decode(named.velocity(0, named.encode(W)))[0], [-3.0, 0.0])
    for name in ("velocity", "jacobian", "norm", "inner"):
        assert hasattr(flow, name)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        flow.colour  # noqa: B018


def test_callables_see_matrices_and_torch_differentiates_them():
    def V(X):
        assert X.shape[-2:] == (3, 2)
        return (X**4).sum((-2, -1)) / 4

    W = np.array([[1.5, 0.2], [0.3, 0.4], [-0.2, 0.1]])
    flow = fl.Matrices(3, 2).flow(fl.Potential(V))
    implicit = end(flow, np.stack([W, -W]), 1.0, fl.ImplicitEuler(), 0.01)
    exact = W / np.sqrt(1 + 2 * W**2)
    assert np.abs(implicit - np.stack([exact, -exact])).max() < 5e-3
    tensors = end(flow, torch.tensor(W), 1.0, fl.RK4(), 0.05)
    assert np.abs(tensors.numpy() - exact).max() < 1e-4
    sol = fl.solve(flow, W, (0, 1), fl.RK4(), dt=0.1)
    assert np.allclose(sum(sol.energies.values()), sol.energy)


def test_a_user_s_proximal_map_sees_matrices():
    """Nuclear norm: singular values fall at speed 1."""

    def prox(X, h):
        U, s, Vh = np.linalg.svd(X, full_matrices=False)
        return (U * np.maximum(s - h, 0)[..., None, :]) @ Vh

    term = fl.Potential(
        lambda X: np.linalg.svd(X, compute_uv=False).sum(-1),
        gradient=lambda X: np.linalg.svd(X)[0] @ np.linalg.svd(X)[2],
        prox=prox,
    )
    W = np.diag([2.0, 0.5])
    assert np.allclose(
        end(fl.Matrices(2, 2).flow(term), W, 1.0, fl.JKO(), 0.25), np.diag([1.0, 0.0])
    )


def test_a_drift_of_matrices_rotates():
    J = np.array([[0.0, -1.0], [1.0, 0.0]])
    for space in (fl.Matrices(2, 2), fl.Stiefel(2, 2)):
        flow = space.flow(fl.Potential(0.0), drift=lambda X: J @ X)
        turned = end(flow, np.eye(2), np.pi / 2, fl.DOP853(), 0.1)
        assert np.abs(turned - J).max() < 1e-9
        assert not flow.is_gradient
    sphere = fl.Sphere().flow(fl.Potential(0.0), drift=lambda x: x @ J.T)
    assert np.abs(
        end(sphere, np.array([1.0, 0.0]), np.pi / 2, fl.DOP853(), 0.1) - [0, 1]
    ).max() < (1e-9)


@pytest.mark.parametrize(
    ("V", "match"),
    [
        (
            lambda X: (X**2).sum(-1),
            r"returned shape \(3,\) for matrices.*expected \(\)",
        ),
        (lambda X: None, "returned None"),
    ],
)
def test_functions_that_are_not_of_matrices_are_refused(V, match):
    term = fl.Potential(V, gradient=lambda X: X)
    with pytest.raises(ValueError, match=match):
        end(fl.Matrices(3, 2).flow(term), np.ones((3, 2)), 1.0, fl.Euler(), 0.1)


@pytest.mark.parametrize(
    ("space", "u0", "match"),
    [
        (fl.Sphere(), 2 * X3, r"not on the unit sphere.*off by 1; give u0 / np.linalg"),
        (fl.Sphere(), np.ones((2, 2, 2)), r"Sphere\(\) takes \(n,\), one unit"),
        (fl.Stiefel(3, 2), np.ones((3, 2)), r"entries up to 3; give np.linalg.qr"),
        (fl.Stiefel(3, 2), np.eye(3), r"takes \(3, 2\), one matrix"),
        (fl.Matrices(3, 2), np.ones(6), r"has shape \(6,\); Matrices\(3, 2\) takes"),
    ],
)
def test_starts_off_the_manifold_are_refused_with_the_remedy(space, u0, match):
    with pytest.raises(ValueError, match=match):
        end(space.flow(fl.Potential("r**2")), u0, 1.0, fl.Euler(), 0.1)


def test_implicit_steps_on_manifolds_are_refused_with_the_reason():
    for space, u0 in ((fl.Sphere(), X3), (fl.Stiefel(3, 1), X3[:, None])):
        flow = space.flow(fl.Potential("x1 + x3"))
        with pytest.raises(TypeError, match=r"is no step on the manifold.*RK4\(\)"):
            end(flow, u0, 1.0, fl.ImplicitEuler(), 0.1)
        with pytest.raises(TypeError, match="may have several solutions"):
            end(flow, u0, 1.0, fl.JKO(), 0.1)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fl.Stiefel(2, 3), ValueError, "3 columns of R.2 cannot"),
        (lambda: fl.Matrices(0, 3), ValueError, "`n` must be at least 1"),
        (lambda: fl.Matrices(2, 1.5), TypeError, "`k` must be an integer"),
        (lambda: fl.Sphere().flow(fl.Entropy(1.0)), TypeError, "Sphere cannot"),
        (lambda: fl.Stiefel(2, 1).flow(fl.Entropy(1.0)), TypeError, "Stiefel cannot"),
        (lambda: fl.Matrices(2, 1).flow(fl.Entropy(1.0)), TypeError, "Matrices cannot"),
        (lambda: fl.Sphere().flow(fl.Potential("x"), 3.0), TypeError, "`drift` must"),
        (lambda: fl.Matrices(2, 2).flow(fl.Potential("x"), 3.0), TypeError, "`drift`"),
        (lambda: fl.problems.rayleigh(1.0, [0.0, 0.0]), ValueError, "must not be 0"),
        (lambda: fl.problems.sphere_linear([0, 0, 0]), ValueError, "`c` must not be 0"),
        (lambda: fl.problems.toda([1.0, 2.0], 0.0), ValueError, "would split"),
        (lambda: fl.problems.brockett(np.eye(2), [1, 1]), ValueError, "distinct"),
        (lambda: fl.problems.orthogonality([1.0]), ValueError, r"expected a matrix"),
        (
            lambda: fl.problems.oja_subspace([1.0, 2.0], np.ones((2, 1))),
            ValueError,
            "must be orthonormal",
        ),
        (
            lambda: fl.problems.oja_subspace([1.0, 2.0], np.eye(3)),
            ValueError,
            "3 rows, `A` is 2 x 2",
        ),
    ],
)
def test_faults_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_distances_are_angles_and_frobenius_norms():
    sphere, x = fl.Sphere(), np.array([1.0, 0.0])
    for angle in (1e-9, 0.3, 3.0):
        y = np.array([np.cos(angle), np.sin(angle)])
        assert sphere.distance(x, y) == pytest.approx(angle, rel=1e-14)
    assert sphere.distance(x, -x) == pytest.approx(np.pi)
    space = fl.Stiefel(3, 2)
    X, turn = orthonormal(3, 2), np.array([[0.6, -0.8], [0.8, 0.6]])
    assert space.angles(X, X @ turn).max() < 1e-15
    assert space.distance(X, X @ turn) == pytest.approx(np.sqrt(2 * 2 * 0.4))
    tilted = np.array([[1.0, 0], [0, np.cos(0.2)], [0, np.sin(0.2)]])
    assert np.allclose(space.angles(np.eye(3)[:, :2], tilted), [0.0, 0.2], atol=1e-15)


def test_batches_and_tensors_move_as_one_state():
    p = fl.problems.oja_subspace(k=2)
    flow = fl.Stiefel(4, 2).flow(p.energy)
    starts = np.stack([orthonormal(4, 2), orthonormal(4, 2, 1)])
    both = end(flow, starts, 0.5, fl.RK4(), 0.05)
    alone = end(flow, starts[1], 0.5, fl.RK4(), 0.05)
    assert np.abs(both[1] - alone).max() < 1e-14
    tensors = end(flow, torch.tensor(starts), 0.5, fl.RK4(), 0.05)
    assert np.abs(tensors.numpy() - both).max() < 1e-13
    single = end(flow, torch.tensor(starts).float(), 0.5, fl.RK4(), 0.05)
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - both).max() < 1e-5
    z = flow.encode(starts)
    assert flow.norm(z).shape == flow.inner(z, z, z).shape == (2,)


def test_spaces_and_problems_pickle_and_print_as_typed():
    for space in (fl.Sphere(), fl.Stiefel(4, 2), fl.Matrices(3, 2, dtype="float32")):
        assert eval(f"fl.{space!r}") == space
        flow = space.flow(fl.Potential("r**2/2"))
        assert repr(pickle.loads(pickle.dumps(flow))) == repr(flow)
    for name in ("rayleigh", "oja", "sphere_linear", "toda", "oja_subspace"):
        p = getattr(fl.problems, name)()
        again = pickle.loads(pickle.dumps(p))
        assert np.array_equal(again.exact(0.7), p.exact(0.7))
    p = fl.problems.orthogonality()
    flow = pickle.loads(pickle.dumps(fl.Matrices(3, 2).flow(p.energy)))
    assert flow.energy(0.0, p.exact(0.0)) == pytest.approx(p.exact_energy(0.0))


def test_solutions_are_saved_interpolated_and_loaded(tmp_path):
    p = fl.problems.toda(t=(0, 1))
    space = fl.Stiefel(4, 4)
    sol = fl.solve(space.flow(p.energy), np.eye(4), p.t, fl.RK4(), dt=0.02)
    assert np.abs(sol(0.503) - p.exact(0.503)).max() < 1e-5
    again = fl.load(sol.save(tmp_path / "run.npz"))
    assert again.space == space
    assert np.array_equal(again.u, sol.u)


def test_measures_enter_and_leave():
    space = fl.Matrices(2, 1)
    assert space.project(fl.Dirac([1.0, 2.0])).tolist() == [[1.0], [2.0]]
    assert isinstance(space.measure(np.ones((3, 2, 1))), fl.Empirical)
    assert isinstance(fl.Sphere().measure(X3), fl.Dirac)
    with pytest.raises(ValueError, match="has 3 coordinates"):
        space.project(fl.Dirac([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="not on the unit sphere"):
        fl.Sphere().project(fl.Dirac([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="orthonormal"):
        fl.Stiefel(2, 1).project(fl.Dirac([1.0, 2.0]))


def test_gradient_and_dissipation_pass_the_library_s_own_checks():
    cubic = fl.Potential("x1**3 + 2*x2*x3 - x3**2 + 0*r")
    W = np.array([[1.5, 0.2], [0.3, 0.4], [-0.2, 0.1]])
    cases = [
        (fl.Sphere().flow(cubic), X3),
        (fl.Stiefel(3, 1).flow(cubic), X3[:, None]),
        (fl.Stiefel(4, 2).flow(fl.problems.oja_subspace().energy), orthonormal(4, 2)),
        (fl.Matrices(3, 2).flow(fl.problems.orthogonality().energy), W),
    ]
    for flow, u in cases:
        assert fl.check_gradient(flow, u).slope == pytest.approx(2.0, abs=0.05)
        sol = fl.solve(flow, u, (0, 0.5), fl.RK4(), dt=1 / 256)
        assert fl.theory.check_dissipation(sol, 3e-5)
        assert fl.check_descent(sol)


def test_matrices_are_drawn_by_their_entries():
    p = fl.problems.orthogonality()
    sol = fl.solve(fl.Matrices(3, 2).flow(p.energy), p.exact(0.0), (0, 0.1))
    entries, _ = sol.plot()
    texts = [text.get_text() for text in entries.get_legend().get_texts()]
    assert texts == [f"$x_{{{i},{j}}}$" for i in (1, 2, 3) for j in (1, 2)]
