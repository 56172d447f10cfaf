"""Structured Jacobians, matrix-free implicit steps, and products with Hessians."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array, diags_array

import flows as fl
from flows.linear import NewtonFailure, Operator, Tridiagonal, shifted
from flows.linear.operators import apply

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(5)


def chain(x):
    """Neighbors that attract and a double well; the Hessian is tridiagonal."""
    gaps = x[..., 1:] - x[..., :-1]
    return 2.0 * (gaps**2).sum(-1) + ((x**2 - 1) ** 2).sum(-1) / 4


def wide(x):
    """Second differences; five diagonals."""
    bends = x[..., 2:] - 2 * x[..., 1:-1] + x[..., :-2]
    return (bends**2).sum(-1) + (x**4).sum(-1)


def chain_gradient(x):
    gaps = x[..., 1:] - x[..., :-1]
    g = x**3 - x
    g[..., 1:] += 4 * gaps
    g[..., :-1] -= 4 * gaps
    return g


def cubes(x):
    return 12 * x[..., None] ** 2 * np.eye(x.shape[-1], dtype=x.dtype)


CHAIN = fl.Potential(chain)
NUMPY_CHAIN = fl.Potential(chain, gradient=chain_gradient)
ROOT = RNG.normal(size=(3, 3))

FIELDS = {
    "formula": (fl.Potential("(x**2 - 1)**2/4 + x*y/3 + y**4"), 2),
    "radius": (fl.Potential("r**3/4 + sin(x)*r + cos(r)*t + 0*z"), 3),
    "powers of r": (fl.Potential("r**4*x + y*z"), 3),
    "kink": (fl.Potential("r"), 2),
    "separable": (fl.separable("x**4/4 + t*exp(x)"), 4),
    "quadratic": (fl.quadratic(ROOT + ROOT.T, b=1.0), 3),
    "diagonal": (fl.quadratic([1.0, 2.0]), 2),
    "constant": (2.0 * fl.Potential(3.0), 2),
    "callable": (CHAIN, 5),
    "gradient": (NUMPY_CHAIN, 5),
    "hessian": (
        fl.Potential(
            lambda x: (x**4).sum(-1),
            gradient=lambda x: 4 * x**3,
            hessian=lambda x: (
                12 * x[..., None] ** 2 * np.eye(x.shape[-1], dtype=x.dtype)
            ),
        ),
        3,
    ),
    "in time": (
        fl.Potential(
            lambda x, t: (x**4).sum(-1) * t + x[..., 0] * x[..., 1], time_dependent=True
        ),
        2,
    ),
}
each_field = pytest.mark.parametrize(("energy", "n"), FIELDS.values(), ids=list(FIELDS))


@each_field
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_products_are_those_of_the_hessian(energy, n, library):
    x, v = RNG.normal(size=(5, n)), RNG.normal(size=(5, n))
    if library == "torch":
        torch = pytest.importorskip("torch")
        if ("chain" in repr(energy) and energy.gradient) or energy.hessian:
            pytest.skip("derivatives written for NumPy")
        x, v = torch.from_numpy(x), torch.from_numpy(v)
    product = energy.hessian_product_at(x, v, 0.3)
    assert type(product) is type(x)
    full = np.asarray(energy.hessian_at(x, 0.3))
    expected = np.einsum("bij,bj->bi", full, np.asarray(v))
    # A gradient without a Hessian is differenced.
    assert np.asarray(product) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    one = np.asarray(energy.hessian_product_at(x[0], v[0], 0.3))
    assert one == pytest.approx(expected[0], rel=1e-8, abs=1e-8)
    scaled = (2.5 * energy).hessian_product_at(x, v, 0.3)
    assert np.asarray(scaled) == pytest.approx(2.5 * expected, rel=1e-8, abs=1e-8)


@each_field
def test_products_keep_float32(energy, n):
    x, v = RNG.normal(size=(2, 5, n)).astype(np.float32)
    product = energy.hessian_product_at(x, v, 0.3)
    assert product.dtype == np.float32
    exact = energy.hessian_product_at(x.astype(float), v.astype(float), 0.3)
    assert product == pytest.approx(exact, rel=2e-2, abs=2e-2)


@each_field
def test_every_member_may_have_its_own_time(energy, n):
    x, v, t = RNG.normal(size=(4, n)), RNG.normal(size=(4, n)), RNG.normal(size=(4, 1))
    t[3] = t[0]
    methods = [
        lambda x, v, t: energy.value_at(x, t),
        lambda x, v, t: energy.gradient_at(x, t),
        lambda x, v, t: energy.hessian_at(x, t),
        lambda x, v, t: energy.hessian_product_at(x, v, t),
    ]
    for method in methods:
        each = [method(a, b, float(s[0])) for a, b, s in zip(x, v, t, strict=True)]
        assert method(x, v, t) == pytest.approx(np.array(each), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shape", [(12,), (3, 12), (2, 3, 12)])
def test_many_rows_of_a_hessian_share_a_backward_pass(shape, monkeypatch):
    from flows.symbolic import autodiff

    x = RNG.normal(size=shape)
    together = CHAIN.hessian_at(x)
    monkeypatch.setattr(autodiff, "MANY", 1000)
    assert together == pytest.approx(CHAIN.hessian_at(x), abs=1e-13)


def test_operations_that_torch_cannot_batch_are_differentiated_row_by_row():
    torch = pytest.importorskip("torch")

    class Cube(torch.autograd.Function):
        """x^3, whose derivatives are no formulas of torch."""

        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(context, slope):
            (x,) = context.saved_tensors
            return slope * 3 * x**2

    energy = fl.Potential(lambda x: Cube.apply(x).sum(-1))
    x = torch.from_numpy(RNG.normal(size=12))
    assert torch.allclose(energy.hessian_at(x), torch.diag(6 * x))


def test_a_zero_vector_has_a_zero_product():
    product = NUMPY_CHAIN.hessian_product_at(np.ones((2, 5)), np.zeros((2, 5)))
    assert (product == 0).all()


PATTERN = diags_array(
    [np.ones(6), np.ones(7), np.ones(6)], offsets=[-1, 0, 1], shape=(7, 7)
)
STRUCTURES = {
    "dense": fl.Dense(),
    "banded": fl.Banded(1, 1),
    "wider than needed": fl.Banded(2, 0),
    "sparse": fl.Sparse(PATTERN),
    "full pattern": fl.Sparse(np.ones((7, 7))),
    "one triangle": fl.Sparse(np.triu(PATTERN.toarray())),
    "krylov": fl.Krylov(),
    "preconditioned": fl.Krylov(lambda x, c, r: r / (1 + c * (8 + 3 * x**2))),
}
each_structure = pytest.mark.parametrize(
    "structure", STRUCTURES.values(), ids=list(STRUCTURES)
)
WEIGHTS = np.linspace(0.5, 2.0, 7)


@each_structure
@pytest.mark.parametrize("metric", [None, 2.0, WEIGHTS], ids=["plain", "2", "weights"])
def test_every_structure_holds_the_same_jacobian(structure, metric):
    flow = fl.Euclidean(metric, structure).flow(CHAIN)
    for u in (RNG.normal(size=7), RNG.normal(size=(3, 7))):
        reference = fl.Euclidean(metric, fl.Dense()).flow(CHAIN).jacobian(0.0, u)
        J = flow.jacobian(0.0, u)
        v = RNG.normal(size=u.shape)
        expected = np.einsum("...ij,...j->...i", reference, v)
        assert apply(J, v) == pytest.approx(expected, abs=1e-11)
        for c in (0.3, np.array([[0.1], [0.3], [2.0]]))[: u.ndim]:
            solved = shifted(J, c, u).solve(v)
            step = c[..., None] if np.ndim(c) else c
            matrix = np.eye(7) - step * reference
            exact = np.linalg.solve(matrix, v[..., None])[..., 0]
            assert solved == pytest.approx(exact, abs=1e-9)


def test_structures_have_the_types_that_they_promise():
    u = RNG.normal(size=7)

    def kind(structure, u):
        return fl.Euclidean(jacobian=structure).flow(CHAIN).jacobian(0.0, u)

    assert isinstance(kind(fl.Banded(1, 0), u), Tridiagonal)
    assert isinstance(kind(fl.Banded(0, 0), u), Tridiagonal)
    assert kind(fl.Banded(2, 2), u).shape == (7, 7)
    assert kind(STRUCTURES["sparse"], u).nnz == 19
    assert isinstance(kind(fl.Krylov(), u), Operator)
    assert isinstance(kind(fl.Banded(1, 1), u[None]), Operator)
    # By itself: matrices for few, a diagonal where it is recognized, products.
    assert isinstance(kind(None, u), np.ndarray)
    many = RNG.normal(size=600)
    assert isinstance(kind(None, many), Operator)
    flow = fl.Euclidean().flow(fl.separable("x**4") + fl.quadratic(2.0))
    assert flow.jacobian(0.0, many).nnz == 600
    both = flow.jacobian(0.0, np.stack([many, many]))
    assert both.product(np.ones((2, 600))) == pytest.approx(
        -np.stack([12 * many**2 + 2] * 2)
    )


@each_structure
@pytest.mark.parametrize("metric", [None, WEIGHTS], ids=["plain", "weights"])
@pytest.mark.parametrize("h", [0.05, 0.5, 20.0])
def test_every_structure_solves_the_same_implicit_steps(structure, metric, h):
    dense = fl.Euclidean(metric, fl.Dense()).flow(CHAIN)
    space = fl.Euclidean(metric, structure)
    flow = space.flow(CHAIN)
    u = RNG.normal(size=(4, 7))
    for start in (u, u[0]):
        v, _ = flow.prox(0.0, start, h, ())
        size = 1 + h * np.abs(dense.velocity(0.0, v)) + 20 * h
        residual = np.abs(v - start - h * dense.velocity(0.0, v))
        assert (residual < 1e-10 * size).all()
        paid = flow.energy(0.0, v) + space.distance(start, v) ** 2 / (2 * h)
        assert np.all(paid <= np.asarray(flow.energy(0.0, start)) + 1e-9)
    if h < 0.5:
        # Convex: there is one solution.
        assert v == pytest.approx(dense.prox(0.0, u[0], h, ())[0], abs=1e-9)
        own = np.array([[h], [0.5 * h], [h], [h]])
        whole, _ = flow.resolvent(0.0, u, own, ())
        assert whole[1] == pytest.approx(
            dense.resolvent(0.0, u[1], 0.5 * h, ())[0], abs=1e-9
        )


@each_structure
def test_every_structure_leaves_a_saddle(structure):
    flow = fl.Euclidean(jacobian=structure).flow(CHAIN)
    v, _ = flow.prox(0.0, np.zeros(7), 3.0, ())
    H = np.eye(7) - 3.0 * fl.Euclidean().flow(CHAIN).jacobian(0.0, v)
    assert np.linalg.eigvalsh(H)[0] > 0
    assert np.abs(v).max() > 0.5
    # The equation of implicit Euler has the saddle as a solution, and keeps it.
    assert (flow.resolvent(0.0, np.zeros(7), 3.0, ())[0] == 0).all()


@pytest.mark.parametrize("n", [4, 9])
def test_five_diagonals_are_found(n):
    energy, u = fl.Potential(wide), RNG.normal(size=(2, n))
    for structure in (fl.Banded(2, 2), fl.Banded(3, 1)):
        flow = fl.Euclidean(jacobian=structure).flow(energy)
        dense = fl.Euclidean().flow(energy)
        assert flow.jacobian(0.0, u[0]).toarray() == pytest.approx(
            dense.jacobian(0.0, u[0]), abs=1e-12
        )
        assert flow.resolvent(0.0, u, 0.3, ())[0] == pytest.approx(
            dense.resolvent(0.0, u, 0.3, ())[0], abs=1e-12
        )


def test_a_pattern_costs_few_products():
    n = 200
    rows = RNG.integers(0, n, 300)
    columns = (rows + RNG.integers(1, 4, 300)) % n
    pattern = csr_array((np.ones(300), (rows, columns)), shape=(n, n))
    structure = fl.Sparse(pattern)
    P, colors = structure.full.toarray() != 0, structure.colors
    for color in range(colors.max() + 1):
        assert P[:, colors == color].sum(axis=1).max() <= 1
    assert colors.max() + 1 <= 3 * P.sum(axis=0).max()


@each_structure
def test_structures_work_on_tensors(structure):
    torch = pytest.importorskip("torch")
    flow = fl.Euclidean(jacobian=structure).flow(CHAIN)
    u = RNG.normal(size=(3, 7))
    for x in (u, u[0]):
        a, _ = flow.resolvent(0.0, x, 0.3, ())
        b, _ = flow.resolvent(0.0, torch.from_numpy(x), 0.3, ())
        assert isinstance(b, torch.Tensor)
        assert b.numpy() == pytest.approx(a, abs=1e-10)
        v = torch.from_numpy(RNG.normal(size=x.shape))
        there = apply(flow.jacobian(0.0, torch.from_numpy(x)), v)
        assert np.asarray(there) == pytest.approx(
            apply(flow.jacobian(0.0, x), v.numpy()), abs=1e-11
        )


@each_structure
def test_structures_keep_float32(structure):
    flow = fl.Euclidean(jacobian=structure).flow(CHAIN)
    u = RNG.normal(size=(3, 7))
    exact, _ = flow.resolvent(0.0, u, 0.3, ())
    for x, y in ((u, exact), (u[0], exact[0])):
        v, _ = flow.resolvent(0.0, x.astype(np.float32), 0.3, ())
        assert v.dtype == np.float32
        assert v == pytest.approx(y, abs=2e-5)


@pytest.mark.parametrize("scheme", [fl.ImplicitEuler(), fl.TRBDF2()], ids=repr)
def test_a_chain_of_many_points_runs_without_matrices(scheme):
    torch = pytest.importorskip("torch")
    n, m = 196_608, 5_000
    x = torch.from_numpy(np.sin(np.arange(n) / 50.0) + 0.1 * RNG.normal(size=n))
    flow = fl.Euclidean().flow(CHAIN)
    sol = fl.solve(flow, x, (0, 0.1), scheme, dt=0.1)
    assert fl.check_descent(sol)
    bands = fl.Euclidean(jacobian=fl.Banded(1, 1)).flow(CHAIN)
    ends = [fl.solve(f, x[:m], (0, 0.2), scheme, dt=0.1).u[-1] for f in (flow, bands)]
    assert (ends[0] - ends[1]).abs().max() < 1e-9


def test_a_large_step_takes_memory_of_a_few_states():
    n = 100_000
    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(NUMPY_CHAIN)
    u = RNG.normal(size=n)
    flow.resolvent(0.0, u[:10], 0.1, ())
    tracemalloc.start()
    v, _ = flow.resolvent(0.0, u, 0.1, ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * u.nbytes
    assert np.abs(v - u - 0.1 * flow.velocity(0.0, v)).max() < 1e-9


def test_separable_potentials_cost_one_number_a_coordinate():
    n = 100_000
    flow = fl.Euclidean().flow(fl.separable("(x**2 - 1)**2/4"))
    u = 2 * RNG.normal(size=n)
    tracemalloc.start()
    v, _ = flow.prox(0.0, u, 5.0, ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * u.nbytes
    # h > 1: every coordinate falls into the nearer well by itself.
    assert (np.sign(v) == np.sign(u)).all()
    residual = np.abs(v - u - 5.0 * flow.velocity(0.0, v))
    assert (residual < 1e-12 * (1 + np.abs(u) + 5 * np.abs(v) ** 3)).all()


def test_a_preconditioner_saves_products():
    n = 400
    stiff = 10.0 ** np.linspace(0, 6, n)

    def energy(x):
        return 0.5 * (fl.arrays.array_like(stiff, x) * x * x).sum(-1) + (x**4).sum(-1)

    counts = []
    for own in (None, lambda x, c, r: r / (1 + c * stiff)):
        flow = fl.Euclidean(jacobian=fl.Krylov(own)).flow(fl.Potential(energy))
        calls = [0]
        plain = type(flow).hessian_products

        def counted(self, *arguments, calls=calls, plain=plain):
            product = plain(self, *arguments)

            def one(r, product=product):
                calls[0] += 1
                return product(r)

            return one

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(flow), "hessian_products", counted)
            v, _ = flow.resolvent(0.0, np.ones(n), 1.0, ())
        residual = np.abs(v - 1.0 - flow.velocity(0.0, v))
        assert (residual <= 1e-10 * (1 + stiff)).all()
        counts.append(calls[0])
    assert counts[1] < 0.1 * counts[0]


@pytest.mark.parametrize(
    ("structure", "kind", "text"),
    [
        (fl.Dense, TypeError, r"is the class Dense; write `fl.Dense\(...\)`"),
        ("dense", TypeError, r"must be fl.Dense\(\), fl.Banded"),
    ],
)
def test_what_is_no_structure_is_refused(structure, kind, text):
    with pytest.raises(kind, match=text):
        fl.Euclidean(jacobian=structure)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: fl.Banded(1.0, 1), TypeError, "`lower` must be an integer"),
        (lambda: fl.Banded(1, -1), ValueError, "`upper` must not be negative"),
        (lambda: fl.Sparse(np.ones((2, 3))), ValueError, r"square.*\(2, 3\)"),
        (lambda: fl.Sparse("pattern"), TypeError, "`pattern` must be a scipy sparse"),
        (lambda: fl.Krylov(3.0), TypeError, r"must be callable\(x, c, r\)"),
    ],
)
def test_wrong_structures_are_named(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_structures_of_another_size_are_refused_at_the_door():
    for structure, text in (
        (STRUCTURES["sparse"], r"shape \(7, 7\), but the state has 5 coordinates"),
        (fl.Banded(5, 5), r"more diagonals than the Hessian of 5"),
    ):
        flow = fl.Euclidean(jacobian=structure).flow(CHAIN)
        with pytest.raises(ValueError, match=text):
            fl.solve(flow, np.ones(5), (0, 1), fl.ImplicitEuler(), dt=0.1)


@pytest.mark.parametrize("structure", [fl.Banded(1, 1), STRUCTURES["sparse"]])
def test_bands_need_a_diagonal_metric(structure):
    with pytest.raises(ValueError, match="needs a diagonal metric"):
        fl.Euclidean(np.eye(7) + 0.1, structure)


@pytest.mark.parametrize(
    ("own", "kind", "text"),
    [
        (lambda x, c, r: None, TypeError, "`preconditioner` returned None"),
        (lambda x, c, r: r[:1], ValueError, r"returned shape \(1,\) for vectors"),
        (lambda x, c, r: -r, NewtonFailure, "preconditioner is not positive definite"),
    ],
)
def test_wrong_preconditioners_are_named(own, kind, text):
    flow = fl.Euclidean(jacobian=fl.Krylov(own)).flow(CHAIN)
    with pytest.raises(kind, match=text):
        flow.resolvent(0.0, np.ones(4) + 0.1, 0.1, ())


def test_a_krylov_failure_says_what_would_help():
    def wrong(x):
        return 1.0 - np.sign(x) * np.pi

    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(
        fl.Potential(lambda x: (x**2).sum(-1), gradient=wrong)
    )
    with pytest.raises(NewtonFailure, match=r"did not converge.*`preconditioner`"):
        flow.resolvent(0.0, np.array([0.3, 0.2]), 1.0, ())
    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(fl.Potential("log(x)"))
    with pytest.raises(NewtonFailure, match="the gradient is not finite"):
        flow.resolvent(0.0, np.array([0.0]), 1.0, ())


def test_an_energy_that_torch_cannot_follow_says_what_to_give():
    flow = fl.Euclidean(jacobian=fl.Krylov()).flow(
        fl.Potential(lambda x: np.sin(np.asarray(x)).sum(-1))
    )
    with pytest.raises(TypeError, match="`gradient="):
        flow.resolvent(0.0, np.ones(3), 0.1, ())


@each_structure
def test_structures_pickle(structure):
    if "preconditioner=<" in repr(structure):
        return
    flow = fl.Euclidean(jacobian=structure).flow(CHAIN)
    again = pickle.loads(pickle.dumps(flow))
    u = RNG.normal(size=7)
    a, b = (f.resolvent(0.0, u, 0.1, ())[0] for f in (flow, again))
    assert a == pytest.approx(b, abs=1e-14)
    assert repr(again) == repr(flow)
