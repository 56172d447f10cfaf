"""Functions that the user wrote: torch differentiates, and slips are named."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from flows.symbolic import CallableDensity, CallableField, QuadraticField, field

torch = pytest.importorskip("torch")


def rosenbrock(x):
    return (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2


def rosenbrock_gradient(x):
    xp = torch if isinstance(x, torch.Tensor) else np
    a, b = x[..., 0], x[..., 1]
    return xp.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], -1)


EXACT = field("(1 - x)**2 + 100*(y - x**2)**2")
X = np.random.default_rng(0).normal(size=(5, 2))


@pytest.mark.parametrize("points", [X, X[0], X.reshape(5, 1, 2), X[::-1], X[:0]])
def test_torch_differentiates_and_numpy_comes_back(points):
    F = field(rosenbrock)
    for ours, exact in (
        (F.value(points), EXACT.value(points)),
        (F.gradient(points), EXACT.gradient(points)),
        (F.hessian(points), EXACT.hessian(points)),
    ):
        assert np.shape(ours) == np.shape(exact)
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-12)
    assert not F.time_dependent
    assert F.smooth


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept_on_both_libraries(dtype):
    F = field(rosenbrock)
    x = X.astype(dtype)
    for evaluate in (F.value, F.gradient, F.hessian):
        assert evaluate(x).dtype == x.dtype
        assert evaluate(torch.tensor(x)).dtype == getattr(torch, dtype)


def test_results_can_be_differentiated_again():
    F = field(rosenbrock)
    x = torch.tensor(X, requires_grad=True)
    (found,) = torch.autograd.grad(F.gradient(x)[:, 0].sum(), x)
    np.testing.assert_allclose(found.numpy(), EXACT.hessian(X)[:, 0], rtol=1e-12)
    (third,) = torch.autograd.grad(F.hessian(x)[:, 0, 0].sum(), x)
    # d/dx of 2 - 400 (y - 3 x^2) is 2400 x.
    np.testing.assert_allclose(third[:, 0].numpy(), 2400 * X[:, 0], rtol=1e-12)
    assert not F.gradient(x.detach()).requires_grad
    with torch.no_grad():
        assert not F.gradient(x).requires_grad
        np.testing.assert_allclose(F.gradient(x).numpy(), EXACT.gradient(X))


def test_a_torch_module_is_trained_through_its_gradient():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    )
    net = torch.nn.Sequential(net, torch.nn.Flatten(-2)).double()
    F = field(net)
    x = torch.tensor(X)
    F.gradient(x).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
    assert F.gradient(X).shape == X.shape
    assert isinstance(F.value(X), np.ndarray)


def test_functions_of_tensors_take_numpy_points():
    F = field(lambda x: torch.exp(-(x**2).sum(dim=-1)))
    np.testing.assert_allclose(F.value(X), np.exp(-(X**2).sum(-1)))
    assert F.gradient(X).shape == X.shape


def test_linear_functions_have_zero_hessian():
    F = field(lambda x: x[..., 0] + 2 * x[..., 1])
    assert not F.hessian(X).any()
    np.testing.assert_array_equal(F.gradient(X[0]), [1.0, 2.0])


def test_time_is_the_second_argument():
    F = field(lambda x, t: t * x[..., 0] ** 2, time_dependent=True)
    assert F.time_dependent
    assert F.value(np.array([2.0]), 3.0) == 12.0
    np.testing.assert_array_equal(F.gradient(np.array([2.0]), 3.0), [12.0])
    np.testing.assert_array_equal(F.hessian(np.array([2.0]), 3.0), [[6.0]])


def test_given_derivatives_are_used_without_torch():
    F = field(
        lambda x: np.sum(x**2, -1) / 2,
        gradient=lambda x: x,
        hessian=lambda x: np.broadcast_to(np.eye(2), (*x.shape, 2)),
    )
    found = F.gradient(X)
    np.testing.assert_array_equal(found, X)
    assert F.hessian(X).shape == (5, 2, 2)
    found += 1
    assert not np.array_equal(found, X)
    z = torch.tensor(X)
    assert CallableField(rosenbrock, gradient=lambda x: x).gradient(z) is not z


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_differences_of_a_given_gradient_make_the_hessian(convert):
    F = field(rosenbrock, gradient=rosenbrock_gradient)
    found = np.asarray(F.hessian(convert(X)))
    exact = EXACT.hessian(X)
    # Step eps^(1/3) max(1, |x|): truncation h^2/6 |third derivatives| ~ 4e-11 * 400.
    assert np.abs(found - exact).max() < 1e-10 * np.abs(exact).max()
    np.testing.assert_array_equal(found, np.swapaxes(found, -1, -2))
    np.testing.assert_allclose(F.hessian(X[0]), exact[0], rtol=1e-8)


def _writes(x):
    x[..., 0] = 0.0
    return x[..., 0] * 1.0


SLIPS = [
    (lambda x: None, TypeError, "`V` returned None; did you forget `return`"),
    (lambda x: x.sum(), ValueError, r"returned shape \(\).*expected \(5,\).*axis -1"),
    (lambda x: x**2, ValueError, r"returned shape \(5, 2\).*expected \(5,\)"),
    (lambda x: x[0] ** 2, ValueError, r"shape \(2,\).*write x\[\.\.\., 0\]"),
    (lambda x: 1.0, ValueError, r"returned shape \(\)"),
    (lambda x: "a", TypeError, "for points of dtype float64"),
    (lambda x: [None] * 5, TypeError, "returned a list"),
    (lambda x: True, TypeError, "returned dtype bool"),
    (lambda x: np.zeros(5, int), TypeError, "returned dtype int64"),
    (lambda x: x[..., 0].astype("float32"), TypeError, "returned dtype float32"),
    (lambda x: torch.zeros(5), TypeError, "returned a torch tensor for NumPy points"),
    (_writes, ValueError, "`V` writes into its argument"),
]


@pytest.mark.parametrize(("function", "error", "message"), SLIPS)
def test_slips_of_a_numpy_function_are_named(function, error, message):
    F = field(function)
    with pytest.raises(error, match=message):
        F.value(X)
    with pytest.raises(error, match=message):
        F.probe(X, derivatives=0)


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (lambda x: None, TypeError, "`gradient` returned None"),
        (lambda x: x[..., 0], ValueError, r"`gradient` returned.*expected \(5, 2\)"),
        (lambda x: x.astype(int), TypeError, "`gradient` returned dtype int64"),
        (lambda x: 2.0, ValueError, r"`gradient` returned shape \(\)"),
        (_writes, ValueError, "`gradient` writes into its argument"),
    ],
)
def test_slips_of_a_given_gradient_name_the_gradient(gradient, error, message):
    F = field(rosenbrock, gradient=gradient)
    with pytest.raises(error, match=message):
        F.gradient(X)
    with pytest.raises(error, match=message):
        F.probe(X)
    with pytest.raises(error, match=message.replace("`gradient`", "`hessian`")[:15]):
        field(rosenbrock, hessian=gradient).hessian(X)


TENSOR_SLIPS = [
    (lambda x: None, TypeError, "`V` returned None"),
    (lambda x: x.sum(), ValueError, r"expected \(5,\)"),
    (lambda x: x.detach().numpy()[..., 0], TypeError, "returned ndarray for a torch"),
    (lambda x: x[..., 0].float(), TypeError, "returned float32 on cpu .* are float64"),
    (lambda x: x[..., 0].detach(), TypeError, "does not depend on its argument"),
    (lambda x: torch.zeros(len(x)).double(), TypeError, "does not depend"),
    (lambda x: np.asarray(x)[..., 0], TypeError, "to NumPy.*give its derivatives"),
    (lambda x: np.sort(x**2, -1)[..., 0], TypeError, "to NumPy.*`gradient=`"),
    (lambda x: x[..., 0].astype(float), TypeError, "does not take torch tensors"),
    (_writes, ValueError, "writes into its argument"),
    (lambda x: x.mul(1).add_(1)[..., 0] if x.add_(1) is x else x, ValueError, "writes"),
]


@pytest.mark.parametrize(("function", "error", "message"), TENSOR_SLIPS)
def test_slips_of_a_function_that_torch_shall_differentiate_are_named(
    function, error, message
):
    F = field(function)
    with pytest.raises(error, match=message):
        F.gradient(X)
    with pytest.raises(error, match=message):
        F.gradient(torch.tensor(X))
    with pytest.raises(error, match=message):
        F.hessian(X)


def test_writing_into_a_tensor_is_noticed():
    with pytest.raises(ValueError, match="`V` writes into its argument"):
        field(_writes).value(torch.tensor(X))


def test_probe_compares_with_a_copy():
    def sneaky(x):
        x = x.view(np.ndarray)
        x.base[0, 0] = 7.0
        return x[..., 0] * 1.0

    x = X.copy()
    with pytest.raises(ValueError, match="`V` writes into its argument"):
        field(sneaky).probe(x, derivatives=0)
    np.testing.assert_array_equal(x, X)


def test_probe_checks_the_gradient_only_when_it_is_used():
    F = field(lambda x: np.asarray(x)[..., 0])
    F.probe(X, derivatives=0)
    with pytest.raises(TypeError, match="`V` converts its argument to NumPy"):
        F.probe(X)
    field(rosenbrock).probe(X, derivatives=2)
    field(rosenbrock).probe(torch.tensor(X, requires_grad=True))
    QuadraticField(1.0).probe(X, derivatives=2)


def test_an_error_of_the_users_own_stays_what_it_is():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        field(broken).value(X)

    def typed(x):
        raise TypeError("mine too")

    with pytest.raises(TypeError, match=r"^mine too$"):
        field(typed).value(X)

    def valued(x):
        raise ValueError("and mine")

    with pytest.raises(ValueError, match=r"^and mine$"):
        field(valued).value(X)

    def failed(x):
        raise RuntimeError("also mine")

    with pytest.raises(RuntimeError, match=r"^also mine$"):
        field(failed).gradient(X)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: field(lambda: 0), r"`V` is called with 1 argument\(s\), \(x\)"),
        (lambda: field(lambda x, t: 0, name="W"), "`W` is called with 1.*time_depend"),
        (lambda: field(rosenbrock, time_dependent=True), r"2 argument\(s\), \(x, t\)"),
        (lambda: field(rosenbrock, gradient=lambda x, t: x), "`gradient` is called"),
        (lambda: field(rosenbrock, hessian=lambda: 0), "`hessian` is called"),
        (lambda: field(rosenbrock, gradient=3), "`gradient` must be callable, got int"),
        (lambda: CallableField(3), "`V` must be callable"),
        (lambda: CallableDensity(3), "`U` must be callable"),
        (lambda: CallableDensity(lambda a, b: a), r"1 argument\(s\), \(rho\)"),
    ],
)
def test_arity_is_read_from_the_signature(build, message):
    with pytest.raises(TypeError, match=message):
        build()


def test_functions_without_signature_are_taken():
    assert field(np.sin).value is not None
    assert field(max).smooth


def test_python_numbers_are_values_of_one_point():
    assert field(lambda x: float(x[0])).value(np.array([2.0], np.float32)) == 2.0
    assert field(lambda x: 3).value(np.array([2.0])).dtype == np.float64


def test_subclasses_of_arrays_come_back_plain():
    class Mine(np.ndarray):
        pass

    F = field(lambda x: x[..., 0].view(Mine) * 2.0)
    assert type(F.value(X)) is np.ndarray
    G = field(lambda x: x[..., 0] if type(x) is np.ndarray else None)
    assert G.value(X.view(Mine)).shape == (5,)


def test_module_level_functions_pickle():
    F = pickle.loads(pickle.dumps(field(rosenbrock, gradient=rosenbrock_gradient)))
    np.testing.assert_array_equal(F.gradient(X), rosenbrock_gradient(X))
    assert repr(F) == "rosenbrock"
    assert "lambda" in repr(field(lambda x: x[..., 0]))


def test_without_torch_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from flows.symbolic import field\n"
        "F = field(lambda x: x[..., 0])\n"
        "F.value(np.ones((2, 1)))\n"
        "try: F.gradient(np.ones((2, 1)))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True
    )
    assert "Differentiating the callable `V` needs torch" in done.stdout
    assert "pip install" in done.stdout
