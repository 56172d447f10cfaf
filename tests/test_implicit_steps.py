"""What implicit steps cost: one point, batches, differences and graphs."""

import numpy as np
import pytest

import flows as fl
from flows.linear import Operator
from flows.spaces import pointwise, single
from flows.symbolic import CallableField

VALLEY = "(1 - x)**2 + 100*(y - x**2)**2"


def gradient(x):
    d = 100.0 * np.diff(x, axis=-1)
    g = x * x * x
    g[..., 1:] += d
    g[..., :-1] -= d
    return g


def value(x):
    return 50.0 * (np.diff(x, axis=-1) ** 2).sum(-1) + (x**4).sum(-1) / 4


@pytest.mark.parametrize(
    ("formula", "parameters"),
    [
        (VALLEY, None),
        ("x**4/4 - x**2/2 + a*x*y + y**2 + exp(z*x) + t*y", {"a": 0.3}),
        ("sqrt(1 + r**2) + (x - 1)**2 * y**2 + z**2", None),
        ("r**3 + r**2 * x + y**2 + z**2", None),
    ],
)
@pytest.mark.parametrize("h", [0.01, 0.3])
def test_one_point_is_solved_in_numbers_as_in_arrays(formula, parameters, h):
    energy = fl.Potential(formula, parameters=parameters) + 0.5 * fl.quadratic(2.0)
    flow = fl.Euclidean().flow(energy)
    x = np.array([-1.2, 1.0, 0.4][: energy.terms[0].function.dimension])
    v = single.single_move(energy, 0.7, x, h, x, True)
    assert v is not None
    residual = np.abs(v - x - h * flow.velocity(0.7, v))
    assert (residual <= 1e-12 * (1 + np.abs(h * flow.hessian(0.7, v)).sum(-1))).all()
    many, _ = flow.prox(0.7, np.stack([x, x]), h, ())
    np.testing.assert_allclose(v, many[0], rtol=1e-11, atol=1e-13)


def test_what_numbers_cannot_solve_is_left_to_arrays():
    saddle = fl.Potential("(x**2 - 1)**2 + y**2")
    point, t = np.array([0.0, 0.5]), 0.0
    assert single.single_move(saddle, t, point, 1.0, point, True) is None
    v, _ = fl.Euclidean().flow(saddle).prox(t, point, 1.0, ())
    assert abs(v[0]) > 0.5
    for formula in ("x**1.5 + y", "log(x) + y", "exp(1e4*x**2) + y"):
        energy = fl.Potential(formula)
        x = np.array([-0.5, 0.0])
        assert single.single_move(energy, t, x, 0.1, x, False) is None
    callable_ = fl.Potential(value, gradient=gradient)
    assert single.single_move(callable_, t, point, 1.0, point, False) is None


def test_solved_members_leave_the_iteration(monkeypatch):
    flow = fl.Euclidean().flow(fl.Potential(VALLEY))
    x = np.ones((1000, 2)) + 1e-9
    x[3] = (-1.2, 1.0)
    sizes = []
    plain = pointwise.solved

    def watched(functions, u, *rest):
        sizes.append(len(u))
        return plain(functions, u, *rest)

    monkeypatch.setattr(pointwise, "solved", watched)
    h = np.linspace(0.5, 1.5, 1000)[:, None]
    v, _ = flow.resolvent(0.0, x, h, ())
    assert sizes[0] == 1000
    assert sizes[-1] < 20
    alone, _ = flow.resolvent(0.0, x[3], float(h[3, 0]), ())
    np.testing.assert_allclose(v[3], alone, rtol=1e-10)
    residual = v - x - h * flow.velocity(0.0, v)
    assert np.abs(residual).max() < 1e-11


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_members_with_times_of_their_own_leave_as_well(library):
    energy = fl.Potential("(x**2 - 1)**2 * t + y**2")
    flow = fl.Euclidean().flow(energy)
    x = np.random.default_rng(0).normal(size=(300, 2))
    t, h = np.linspace(0.1, 9.0, 300)[:, None], np.linspace(0.01, 2.0, 300)[:, None]
    parts = [x, t, h]
    if library == "torch":
        torch = pytest.importorskip("torch")
        parts = [torch.tensor(a) for a in parts]
    v, _ = flow.resolvent(parts[1], parts[0], parts[2], ())
    v = fl.arrays.to_numpy(v)
    assert np.abs(v - x - h * flow.velocity(t, v)).max() < 1e-11


def test_parameters_of_members_keep_the_batch_together():
    a = np.linspace(0.5, 2.0, 100)
    flow = fl.Euclidean().flow(fl.Potential("a*x**4", parameters={"a": a}))
    x = np.linspace(-2, 2, 100)[:, None]
    v, _ = flow.resolvent(0.0, x, 1.0, ())
    np.testing.assert_allclose(v + 4 * a[:, None] * v**3, x, atol=1e-12)


@pytest.mark.parametrize(
    ("structure", "most"), [(fl.Banded(1, 1), 20), (fl.Krylov(), 100)]
)
def test_newton_takes_one_gradient_a_product(structure, most):
    count = [0]

    def counted(x):
        count[0] += 1
        return gradient(x)

    flow = fl.Euclidean(jacobian=structure).flow(fl.Potential(value, gradient=counted))
    x = np.cos(np.linspace(0, 40, 3000)) + 0.1 * np.cos(np.arange(3000))
    v, _ = flow.resolvent(0.0, x, 0.03, ())
    # With two gradients a product, and every matrix made anew: 30 and 155.
    assert count[0] <= most
    assert np.abs(v - x + 0.03 * gradient(v)).max() < 1e-10


def test_one_sided_products_have_eight_digits():
    field = CallableField(value, gradient=gradient)
    rng = np.random.default_rng(1)
    x, v = rng.normal(size=50), rng.normal(size=50)
    exact = 3 * x * x * v + gradient(v) - v**3
    for slope, digits in ((None, 1e-9), (gradient(x), 1e-6)):
        error = np.abs(field.products(x, 0.0, slope)(v) - exact).max()
        assert error < digits * np.abs(exact).max()


def test_products_keep_the_graph_of_the_gradient():
    pytest.importorskip("torch")
    count = [0]

    def energy(x):
        count[0] += 1
        return (x**4).sum(-1)

    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(fl.Potential(energy))
    x = np.linspace(-1, 1, 9)
    J = flow.jacobian(0.0, x)
    for v in np.eye(9):
        np.testing.assert_allclose(J.product(v), -12 * x * x * v)
    assert count[0] == 1


@pytest.mark.parametrize("scheme", [fl.Rosenbrock(), fl.Radau(), fl.Exponential()])
def test_products_by_differences_are_as_exact_as_they_can_be(scheme):
    """A residual of 1e-12 is beyond differences: steps failed and were halved."""
    x = np.cos(np.linspace(0, 4, 600))
    runs = [
        fl.solve(
            fl.Euclidean(jacobian=structure).flow(
                fl.Potential(value, gradient=gradient)
            ),
            x,
            (0, 0.02),
            scheme,
            dt=0.01,
            save_at=[0.02],
        )
        for structure in (fl.Krylov(), fl.Banded(1, 1))
    ]
    assert [run.stats["steps"] for run in runs] == [2, 2]
    np.testing.assert_allclose(runs[0].u[-1], runs[1].u[-1], atol=1e-9)


def test_many_members_with_a_diagonal_jacobian_take_no_matrices():
    flow = fl.Euclidean().flow(fl.separable("(x**2 - 1)**2"))
    J = flow.jacobian(0.0, np.ones((3000, 100)))
    assert isinstance(J, Operator)
    np.testing.assert_array_equal(J.diagonal, -8.0)


def test_the_length_of_a_point_is_a_kink_however_it_is_typed():
    for text in ("sqrt(x**2 + y**2)", "(x**2 + y**2)**0.5", "r + 0*x + 0*y"):
        energy = fl.Potential(text)
        assert not energy.function.smooth
        v, _ = fl.Euclidean().flow(energy).prox(0.0, np.array([0.3, 0.4]), 0.2, ())
        np.testing.assert_allclose(v, [0.18, 0.24], rtol=1e-12)
    assert fl.Potential("sqrt(1 + x**2 + y**2)").function.smooth
    assert fl.Potential("(x**2 + y**2)**2").function.smooth


def test_an_energy_is_no_potential_of_a_potential():
    with pytest.raises(TypeError, match=r"is the energy .* without Potential\(\)"):
        fl.Potential(fl.nonsmooth.l1(1.0))
