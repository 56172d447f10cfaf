"""Systems (I - c J) x = r and exponentials of h J, for all that a Jacobian may be."""

import numpy as np
import pytest
from scipy.sparse import diags_array

from flows.arrays import to_numpy
from flows.linear import (
    CyclicTridiagonal,
    NewtonFailure,
    Operator,
    Tridiagonal,
    apply,
    exponentials,
    shifted,
    sparse_factor,
)
from flows.linear.operators import diagonal_of
from flows.linear.phi import DENSE, phi

N = 12


def symmetric(n=N, seed=0, top=30.0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return -(Q * np.linspace(0.0, top, n)) @ Q.T


def skewed(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return symmetric(n, seed) + 2.0 * rng.normal(size=(n, n)) / np.sqrt(n)


def diagonals(kind, n=N, seed=0):
    rng = np.random.default_rng(seed)
    m = n if kind is CyclicTridiagonal else n - 1
    return kind(rng.normal(size=m), -3.0 - rng.random(n), rng.normal(size=m))


def sparse_of(matrix):
    from scipy import sparse

    return sparse.csr_array(matrix)


def kinds():
    """Every form of a Jacobian of one state, with its full matrix."""
    S, G = symmetric(), skewed()
    line, circle = diagonals(Tridiagonal), diagonals(CyclicTridiagonal)
    return {
        "dense symmetric": (S, S),
        "dense": (G, G),
        "line": (line, line.dense()),
        "circle": (circle, circle.dense()),
        "sparse": (sparse_of(line.dense()), line.dense()),
        "operator symmetric": (Operator(lambda v: apply(S, v)), S),
        "operator": (Operator(lambda v: apply(G, v), symmetric=False), G),
    }


KINDS = kinds()
SHIFTS = [0.3, -0.01, 0.3 + 0.4j, -5.0, 1j]
DTYPES = [("numpy", "float64"), ("numpy", "float32"), ("torch", "float64")]
DTYPES += [("torch", "float32")]


def made(values, library, dtype):
    if library == "numpy":
        return np.asarray(values, dtype=dtype)
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.array(values)).to(getattr(torch, dtype))


def expected(matrix, c, r):
    shift = np.eye(matrix.shape[-1]) - np.asarray(c)[..., None] * matrix
    return np.linalg.solve(shift, np.asarray(r, dtype=complex)[..., None])[..., 0]


def close(x, right, dtype):
    size = np.abs(right).max()
    bound = 1e-10 if dtype == "float64" else 2e-3
    np.testing.assert_allclose(np.asarray(x), right, atol=bound * size, rtol=0)


@pytest.mark.parametrize(("library", "dtype"), DTYPES)
@pytest.mark.parametrize("c", SHIFTS)
@pytest.mark.parametrize("name", KINDS)
def test_every_form_is_solved_in_its_library_and_dtype(name, c, library, dtype):
    J, matrix = KINDS[name]
    r = made(np.random.default_rng(1).normal(size=N), library, dtype)
    x = shifted(J, c, r).solve(r)
    assert type(x) is type(r)
    wide = {"float64": "complex128", "float32": "complex64"}[dtype]
    assert str(x.dtype).endswith(wide if isinstance(c, complex) else dtype)
    close(x, expected(matrix, c, r), dtype)
    again = shifted(J, c, r).solve(x)
    close(again, expected(matrix, c, np.asarray(x)), dtype)


@pytest.mark.parametrize(("library", "dtype"), DTYPES)
@pytest.mark.parametrize("phase", [1.0, 1.0 + 0.5j])
@pytest.mark.parametrize("n", [4, 40])
def test_members_have_their_own_matrix_and_shift(n, phase, library, dtype):
    rng = np.random.default_rng(2)
    S = np.stack([symmetric(n, i) for i in range(3)])
    G = np.stack([skewed(n, i) for i in range(3)])
    r = made(rng.normal(size=(3, n)), library, dtype)
    c = made(np.array([[0.1], [0.5], [0.02]]), library, dtype) * phase
    forms = [(S, S), (G, G), (S[0], S[0]), (sparse_of(G[0]), G[0])]
    forms += [(Operator(lambda v: apply(S, v)), S)]
    forms += [(Operator(lambda v: apply(G, v), symmetric=False), G)]
    for J, matrix in forms:
        close(shifted(J, c, r).solve(r), expected(matrix, np.asarray(c), r), dtype)
        one = 0.3 * phase
        close(shifted(J, one, r).solve(r), expected(matrix, one, r), dtype)


@pytest.mark.parametrize("c", [0.3, 0.3 + 0.2j])
@pytest.mark.parametrize("even", [True, False])
def test_members_of_an_operator_converge_like_each_alone(even, c):
    matrices = np.stack([symmetric(30, 0, 1.0), symmetric(30, 1, 1e4)])
    if not even:
        matrices = matrices + np.tril(np.ones((30, 30)), -1)
    r = np.random.default_rng(3).normal(size=(2, 30)) * np.array([[1.0], [1e-6]])
    together = shifted(Operator(lambda v: apply(matrices, v), even), c, r).solve(r)
    for i in range(2):
        J = Operator(lambda v, i=i: apply(matrices[i], v), even)
        alone = shifted(J, c, r[i]).solve(r[i])
        for x in (alone, together[i]):
            left = np.linalg.norm(x - c * (matrices[i] @ x) - r[i])
            assert left <= 2e-12 * np.linalg.norm(r[i])


def test_products_are_those_of_the_full_matrix():
    v = np.random.default_rng(4).normal(size=(5, N))
    torch = pytest.importorskip("torch")
    for J, matrix in KINDS.values():
        np.testing.assert_allclose(apply(J, v[0]), matrix @ v[0], rtol=1e-12)
        np.testing.assert_allclose(apply(J, v), v @ matrix.T, atol=1e-12)
        tensor = apply(J, torch.from_numpy(v.copy()).float())
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), v @ matrix.T, atol=1e-4)


def test_large_matrices_are_solved_by_cholesky_and_by_lu():
    n = 200
    r = np.random.default_rng(5).normal(size=n)
    for matrix in (symmetric(n), skewed(n)):
        for c in (0.5, -0.7):
            x = shifted(matrix, c, r).solve(r)
            np.testing.assert_allclose(x - c * matrix @ x, r, atol=1e-10)


def test_a_preconditioner_saves_products():
    n, products = 4000, [0]
    weights = np.logspace(0, 6, n)

    def product(v):
        products[0] += 1
        return -weights * v - 0.1 * np.roll(v, 1) - 0.1 * np.roll(v, -1)

    def diagonal(c, r):
        return r / (1.0 + c * weights)

    r = np.random.default_rng(6).normal(size=n)
    for c in (1.0, 1.0 + 1.0j):
        for even in (True, False):
            products[0] = 0
            J = Operator(product, even, diagonal)
            x = shifted(J, c, r).solve(r)
            assert products[0] < 120
            left = x - c * (product(x.real) + 1j * product(x.imag)) - r
            assert np.linalg.norm(left) < 2e-12 * np.linalg.norm(r)


def test_the_memory_of_a_krylov_solve_is_a_fixed_number_of_vectors():
    import tracemalloc

    n = 10_000
    r = np.random.default_rng(7).normal(size=n)
    weights = np.linspace(0.0, 300.0, n)
    for even, most in ((True, 14), (False, 60)):
        J = Operator(lambda v: -weights * v, even)
        solver = shifted(J, 1.0, r)
        tracemalloc.start()
        solver.solve(r)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * r.nbytes


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_singular_and_infinite_matrices_are_an_error(library):
    r = made(np.ones(3), library, "float64")
    for J in (np.eye(3), Tridiagonal(np.zeros(2), np.ones(3), np.zeros(2))):
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            shifted(J, 1.0, r)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        shifted(sparse_of(np.eye(3)), 1.0, r)
    batch = made(np.ones((2, 3)), library, "float64")
    with pytest.raises(np.linalg.LinAlgError, match=r"[Ss]ingular"):
        shifted(np.stack([np.eye(3)] * 2), 1.0, batch).solve(batch)
    for J in (np.full((3, 3), np.nan), np.full((2, 3, 3), np.inf)):
        with pytest.raises(np.linalg.LinAlgError, match="not finite"):
            shifted(J, 1.0, r)


@pytest.mark.parametrize("even", [True, False])
def test_a_krylov_method_that_fails_has_its_residuals(even):
    r = np.array([1.0, 1.0, 0.0])
    J = Operator(lambda v: v * np.array([1.0, -2.0, -3.0]), even)
    with pytest.raises(NewtonFailure, match="Krylov method stopped") as caught:
        shifted(J, 1.0, r).solve(r)
    assert len(caught.value.residuals) >= 2
    assert caught.value.residuals[-1] > 0.1
    with pytest.raises(NewtonFailure, match="right-hand side of a Krylov method"):
        shifted(J, 0.5, r).solve(np.array([np.nan, 0.0, 0.0]))


def test_zero_right_hand_sides_have_the_solution_zero():
    for J, _ in KINDS.values():
        for c in (0.3, 0.3j):
            x = shifted(J, c, np.zeros(N)).solve(np.zeros(N))
            np.testing.assert_array_equal(x, np.zeros(N))


def test_a_complex_sparse_factor_wants_complex_right_hand_sides():
    factor = sparse_factor(sparse_of(skewed() + 1j * np.eye(N)))
    with pytest.raises(TypeError, match="must be complex, got float64"):
        factor.solve(np.ones(N))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_phi_functions_are_right_to_rounding(k):
    mpmath = pytest.importorskip("mpmath")
    z = [-1e10, -1e4, -50.0, -3.0, -1.0001, -0.9999, -0.5, -1e-9, 0.0, 1e-5, 1.2, 30.0]

    def exact(x):
        with mpmath.workdps(60):
            x = mpmath.mpf(x)
            if x == 0:
                return float(1 / mpmath.factorial(k))
            head = sum(x**j / mpmath.factorial(j) for j in range(k))
            return float((mpmath.exp(x) - head) / x**k)

    np.testing.assert_allclose(phi(k, np.array(z)), list(map(exact, z)), rtol=1e-15)


def phi_matrix(k, M):
    values, vectors = np.linalg.eig(M)
    near = np.abs(values) < 1e-3
    far = np.where(near, 1.0, values)
    value = np.exp(far)
    for j in range(k):
        value = (value - 1.0 / [1, 1, 2][j]) / far
    factorial = [1, 1, 2, 6, 24, 120]
    series = 1 / factorial[k] + values / factorial[k + 1] + values**2 / factorial[k + 2]
    return (vectors * np.where(near, series, value)) @ np.linalg.inv(vectors)


@pytest.mark.parametrize(("library", "dtype"), DTYPES)
@pytest.mark.parametrize("name", KINDS)
def test_exponentials_of_every_form(name, library, dtype):
    J, matrix = KINDS[name]
    rng = np.random.default_rng(8)
    vectors = rng.normal(size=(3, N))
    a, b, c = (made(v, library, dtype) for v in vectors)
    functions = exponentials(J, 0.4, a)
    bound = 1e-10 if dtype == "float64" else 1e-4
    P = [np.real(phi_matrix(k, 0.4 * matrix)) for k in (1, 2, 3)]
    both = functions.combine([a, b])
    third = functions.combine([None, None, c])
    assert type(both) is type(a)
    assert both.dtype == third.dtype == a.dtype
    right = P[0] @ vectors[0] + P[1] @ vectors[1]
    np.testing.assert_allclose(np.asarray(both), right, atol=bound)
    np.testing.assert_allclose(np.asarray(third), P[2] @ vectors[2], atol=bound)


def test_exponentials_of_batches_with_their_own_steps():
    h = np.array([[0.1], [0.5], [2.0]])
    S = np.stack([symmetric(8, i) for i in range(3)])
    G = np.stack([skewed(8, i) for i in range(3)])
    v = np.random.default_rng(9).normal(size=(3, 8))
    for matrix, even in ((S, True), (G, False)):
        right = [
            np.real(phi_matrix(1, float(h[i, 0]) * matrix[i])) @ v[i] for i in range(3)
        ]
        J = Operator(lambda x, matrix=matrix: apply(matrix, x), even)
        for form in (matrix, J):
            result = exponentials(form, h, v).combine([v])
            np.testing.assert_allclose(result, right, atol=1e-10)


def test_large_banded_matrices_go_through_krylov_spaces():
    n = DENSE + 100
    v = np.random.default_rng(10).normal(size=n)
    for upper in (1.0, 0.7):
        line = Tridiagonal(np.ones(n - 1), np.full(n, -2.0), np.full(n - 1, upper))
        whole = exponentials(line.dense(), 30.0, v).combine([v, None, v])
        for J in (line, sparse_of(line.dense())):
            result = exponentials(J, 30.0, v).combine([v, None, v])
            np.testing.assert_allclose(result, whole, atol=1e-9)


def test_exponentials_that_fail_say_why(monkeypatch):
    v = np.ones(3)
    with pytest.raises(np.linalg.LinAlgError, match="entries that are not finite"):
        exponentials(np.full((3, 3), np.nan), 1.0, v)
    monkeypatch.setattr("flows.linear.phi_krylov.MOST_LANCZOS", 20)
    monkeypatch.setattr("flows.linear.phi_krylov.MOST_PARTS", 8)
    monkeypatch.setattr("flows.linear.phi_krylov.MOST_SUBSTEPS", 3)
    wild = np.linspace(0.0, 1e3, 500)
    for even, text in ((True, "converge in 8 subs"), (False, "more than 3 subs")):
        J = Operator(lambda x: -wild * x, even)
        with pytest.raises(NewtonFailure, match=text):
            exponentials(J, 1.0, wild).combine([np.ones(500)])
    broken = Operator(lambda x: x * np.nan, symmetric=False)
    with pytest.raises(NewtonFailure, match="not finite"):
        exponentials(broken, 1.0, v).combine([v])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_diagonal_jacobian_is_a_function_of_its_entries(batch, library):
    rng = np.random.default_rng(4)
    d, v = -(10.0 ** rng.uniform(-3, 7, (*batch, 9))), rng.normal(size=(*batch, 9))
    J = Operator(no_products, diagonal=made(d, library, "float64"))
    r = made(v, library, "float64")
    found = to_numpy(exponentials(J, 0.3, r).combine([r, None, 2.0 * r]))
    np.testing.assert_allclose(
        found, (phi(1, 0.3 * d) + 2.0 * phi(3, 0.3 * d)) * v, rtol=1e-14
    )
    for c in (0.3, 0.3 + 1.0j):
        found = to_numpy(shifted(J, c, r).solve(r))
        np.testing.assert_allclose(found, v / (1.0 - c * d), rtol=1e-14)


def no_products(v):
    raise AssertionError("a diagonal matrix needs no products")


def test_a_sparse_diagonal_is_recognized():
    d, v = -np.linspace(0.0, 1e9, 3000), np.ones(3000)
    J = sparse_of(np.diag([1.0, 2.0]))
    np.testing.assert_array_equal(diagonal_of(J), [1.0, 2.0])
    assert diagonal_of(sparse_of(np.array([[0.0, 1.0], [1.0, 0.0]]))) is None
    exact = phi(1, d)
    J = diags_array(d, format="csc")
    np.testing.assert_array_equal(exponentials(J, 1.0, v).combine([v]), exact)


@pytest.mark.parametrize("ratio", [1.0, 0.6])
@pytest.mark.parametrize("stiff", [1.0, 1e3, 1e7])
def test_banded_exponentials_take_few_solutions(stiff, ratio, monkeypatch):
    n = DENSE + 50
    weights = np.where(np.arange(n) % 2, ratio, 1.0)
    off = np.full(n - 1, stiff)
    line = Tridiagonal(
        off / weights[1:], -2.0 * stiff / weights - 0.1, off / weights[:-1]
    )
    # Symmetric in the metric of the weights: an exact answer from eigenvectors.
    root = np.sqrt(weights)
    even = line.dense() * root[:, None] / root
    rng = np.random.default_rng(7)
    v, w = rng.normal(size=n), np.sin(np.arange(n) / 50.0)
    whole = exponentials(0.5 * (even + even.T), 0.8, v)
    exact = whole.combine([root * v, None, root * w]) / root
    monkeypatch.setattr("flows.linear.phi.Lanczos", lambda *_: None)
    monkeypatch.setattr("flows.linear.phi.Arnoldi", lambda *_: None)
    for J in (line, sparse_of(line.dense())):
        found = exponentials(J, 0.8, v).combine([v, None, w])
        np.testing.assert_allclose(found, exact, atol=1e-11 * np.abs(exact).max())


def test_symmetric_operators_take_substeps(monkeypatch):
    monkeypatch.setattr("flows.linear.phi_krylov.MOST_LANCZOS", 60)
    d, rng = -np.linspace(0.0, 3e3, 500), np.random.default_rng(3)
    vectors = [rng.normal(size=500), rng.normal(size=500), rng.normal(size=500)]
    found = exponentials(Operator(lambda x: d * x), 1.0, d).combine(vectors)
    exact = sum(phi(k, d) * v for k, v in enumerate(vectors, 1))
    np.testing.assert_allclose(found, exact, atol=1e-10 * np.abs(exact).max())
