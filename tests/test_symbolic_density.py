"""Functions of a density: derivatives, values at vacuum, and what is recognized."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import sympy

from flows import symbolic
from flows.symbolic import (
    EntropyFunction,
    PowerFunction,
    SymbolicDensity,
    convex_on_positive,
    density_function,
    recognize,
)

RHO = np.array([0.05, 0.7, 1.0, 3.2])

FUNCTIONS = [
    EntropyFunction(),
    EntropyFunction(0.3, slope=-2.0),
    PowerFunction(2),
    PowerFunction(3.0, coefficient=0.5),
    PowerFunction(1.5, slope=1.0),
    PowerFunction(4.0),
    PowerFunction(0.5),
    PowerFunction(0.7),
    density_function("rho**2 + rho*log(rho)"),
    density_function("k*rho**p + sinh(rho)", parameters={"k": 0.4, "p": 2.5}),
    density_function("exp(rho) - 1"),
]


def _order(errors, steps):
    return np.diff(np.log(errors)) / np.diff(np.log(steps))


@pytest.mark.parametrize("U", FUNCTIONS, ids=repr)
def test_derivatives_match_differences(U):
    steps = np.array([0.02, 0.01, 0.005, 0.0025])
    for below, above in ((U.value, U.first), (U.first, U.second)):
        errors = [
            np.linalg.norm(
                below(RHO * (1 + h)) - below(RHO * (1 - h)) - 2 * h * RHO * above(RHO)
            )
            for h in steps
        ]
        # Central differences of a quadratic are exact: then only rounding is left.
        if errors[0] > 1e-12:
            assert np.all(np.abs(_order(errors, steps) - 3) < 0.1)


@pytest.mark.parametrize("U", FUNCTIONS, ids=repr)
def test_pressure_and_its_slope_are_those_of_the_formula(U):
    pressure = RHO * U.first(RHO) - U.value(RHO)
    np.testing.assert_allclose(U.pressure(RHO), pressure, rtol=1e-12, atol=1e-14)
    slope = RHO * U.second(RHO)
    np.testing.assert_allclose(U.enthalpy_slope(RHO), slope, rtol=1e-12)


@pytest.mark.parametrize("U", FUNCTIONS, ids=repr)
def test_expressions_give_the_same_values(U):
    values = {sympy.Symbol("k", real=True): 0.4, sympy.Symbol("p", real=True): 2.5}
    f = sympy.lambdify(symbolic.RHO, U.expr().subs(values))
    np.testing.assert_allclose(f(RHO), U.value(RHO), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("U", FUNCTIONS, ids=repr)
def test_torch_equals_numpy_in_both_precisions(U, dtype):
    torch = pytest.importorskip("torch")
    rho = RHO.astype(dtype).reshape(2, 2)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for f in (U.value, U.first, U.second, U.pressure, U.enthalpy_slope):
        ours, theirs = f(rho), f(torch.tensor(rho))
        assert ours.dtype == rho.dtype
        assert theirs.dtype == getattr(torch, dtype)
        assert ours.shape == tuple(theirs.shape) == (2, 2)
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("U", "value", "first", "pressure"),
    [
        (EntropyFunction(), 0.0, -np.inf, 0.0),
        (PowerFunction(2), 0.0, 0.0, 0.0),
        (PowerFunction(1.5), 0.0, 0.0, 0.0),
        (PowerFunction(0.5), 0.0, -np.inf, 0.0),
        (density_function("rho*log(rho) + rho**2"), 0.0, -np.inf, 0.0),
        (density_function("rho**2*log(rho)"), 0.0, 0.0, 0.0),
        (density_function("(exp(rho) - 1)/rho"), 1.0, 0.5, -1.0),
        (
            density_function("k*rho*log(rho) + rho**3", parameters={"k": 2.0}),
            0,
            None,
            0,
        ),
    ],
    ids=repr,
)
def test_vacuum_has_its_limits(U, value, first, pressure):
    torch = pytest.importorskip("torch")
    with np.errstate(all="raise"):
        for rho in (np.array([0.0, 1.0]), torch.tensor([0.0, 1.0])):
            assert float(U.value(rho)[0]) == value
            assert float(U.pressure(rho)[0]) == pressure
            if first is not None:
                assert float(U.first(rho)[0]) == first
            assert np.isfinite(float(U.value(rho)[1]))


def test_the_entropy_has_the_temperature_as_diffusion():
    U = EntropyFunction(0.3, slope=5.0)
    np.testing.assert_allclose(U.pressure(RHO), 0.3 * RHO)
    np.testing.assert_array_equal(U.enthalpy_slope(RHO), np.full(4, 0.3))


def test_powers_have_the_convention_of_porous_media():
    U = PowerFunction(3)
    np.testing.assert_allclose(U.value(RHO), RHO**3 / 2)
    np.testing.assert_allclose(U.pressure(RHO), RHO**3)


RHO_SYMBOL = sympy.Symbol("rho", positive=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rho*log(rho)", ("entropy", 1.0)),
        ("rho*(log(rho) - 1)", ("entropy", 1.0)),
        ("0.3*rho*log(rho/2) + 4*rho", ("entropy", 0.3)),
        ("rho*log(3*rho**2)", ("entropy", 2.0)),
        ("rho**2", ("power", 2.0, 1.0)),
        ("rho*rho/2 - 7*rho", ("power", 2.0, 0.5)),
        ("2*sqrt(rho)", ("power", 0.5, 2.0)),
        ("(rho + 1)**2 - 1", ("power", 2.0, 1.0)),
        ("rho**1.7/0.7", ("power", 1.7, 1 / 0.7)),
        ("rho", None),
        ("rho**2 + 1", None),
        ("rho**2 + rho**3", None),
        ("rho**2 + rho*log(rho)", None),
        ("1/rho", None),
        ("log(rho)", None),
        ("rho**2*log(rho)", None),
        ("exp(rho)", None),
        ("(rho + exp(rho) + sin(rho))**9", None),
    ],
)
def test_entropy_and_powers_are_recognized(text, expected):
    found = recognize(symbolic.parse(text, {"rho": symbolic.RHO}))
    if expected is None:
        assert found is None
    else:
        assert found[0] == expected[0]
        assert found[1:] == pytest.approx(expected[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3*rho*log(rho) - rho", EntropyFunction(0.3, -1.0)),
        ("rho**2", PowerFunction(2.0)),
        ("rho**3 + rho", PowerFunction(3.0, 2.0, 1.0)),
        ("-2*sqrt(rho)", PowerFunction(0.5)),
    ],
)
def test_the_dispatcher_returns_the_recognized_function_with_equal_values(
    text, expected
):
    U = density_function(text)
    assert expected == U
    plain = SymbolicDensity(text)
    for name in ("value", "first", "second", "pressure", "enthalpy_slope"):
        ours, theirs = getattr(U, name)(RHO), getattr(plain, name)(RHO)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_recognition_uses_the_values_of_parameters():
    U = density_function("rho**m/(m - 1)", parameters={"m": 1.7})
    assert isinstance(U, PowerFunction)
    assert U.m == 1.7
    assert U.coefficient == pytest.approx(1.0)
    assert isinstance(
        density_function("rho**m", parameters={"m": -1.0}), SymbolicDensity
    )
    torch = pytest.importorskip("torch")
    m = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    V = density_function("rho**m/(m - 1)", parameters={"m": m})
    assert isinstance(V, SymbolicDensity)
    rho = torch.tensor([2.0], dtype=torch.float64)
    (found,) = torch.autograd.grad(V.value(rho).sum(), m)
    # d/dm of rho^m / (m - 1) at m = 2, rho = 2: 4 log 2 - 4.
    assert float(found) == pytest.approx(4 * np.log(2) - 4)


def test_sympy_expressions_are_matched_by_name():
    rho = sympy.Symbol("rho")
    assert density_function(rho * sympy.log(rho)) == EntropyFunction()
    U = density_function(sympy.exp(rho))
    np.testing.assert_allclose(U.second(RHO), np.exp(RHO))


def cubic(rho):
    return rho**3


@pytest.mark.parametrize(
    "U",
    [
        density_function(cubic),
        density_function(cubic, first=lambda r: 3 * r**2),
        density_function(cubic, first=lambda r: 3 * r**2, second=lambda r: 6 * r),
    ],
    ids=["torch", "first", "both"],
)
def test_callables_are_differentiated(U):
    torch = pytest.importorskip("torch")
    rho = np.array([[0.0, 0.5], [1.0, 2.0]])
    for given in (rho, torch.tensor(rho)):
        np.testing.assert_allclose(U.value(given), rho**3)
        np.testing.assert_allclose(U.first(given), 3 * rho**2, rtol=1e-14)
        # One-sided at 0, so first order in the step (6e-6)^2 there.
        np.testing.assert_allclose(U.second(given), 6 * rho, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(U.pressure(given), 2 * rho**3, rtol=1e-14)
    assert U.expr() is None
    assert U.latex() == r"U(\rho)"
    U.probe(rho)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: density_function("x**2"),
            ValueError,
            r"'x'; known are the density rho",
        ),
        (lambda: density_function("rho*t"), ValueError, "'t'; known are"),
        (
            lambda: density_function(3.0),
            TypeError,
            "`U` must be a string in the density",
        ),
        (
            lambda: density_function("rho", first=cubic),
            TypeError,
            "belong to a callable",
        ),
        (lambda: density_function(cubic, parameters={"k": 1.0}), TypeError, "formulas"),
        (lambda: SymbolicDensity(3), TypeError, "must be a string or a sympy"),
        (lambda: PowerFunction(1), ValueError, "m = 1 is `Entropy`"),
        (lambda: PowerFunction(-1.0), ValueError, "must be positive and not 1"),
        (lambda: PowerFunction(np.nan), ValueError, "must be positive and not 1"),
        (lambda: PowerFunction("2"), TypeError, "`m` must be a number"),
        (lambda: PowerFunction(2, coefficient=0.0), ValueError, "must not be 0"),
        (lambda: EntropyFunction(np.inf), ValueError, "`coefficient` must be a finite"),
        (lambda: EntropyFunction(slope="a"), ValueError, "`slope` must be a finite"),
        (
            lambda: density_function(cubic).with_parameters({"k": 1.0}),
            ValueError,
            "no parameter\\(s\\) 'k'; known: none",
        ),
        (
            lambda: density_function(lambda r: None).probe(RHO),
            TypeError,
            "`U` returned N",
        ),
        (
            lambda: density_function(lambda r: r.sum()).probe(RHO),
            ValueError,
            r"`U` returned shape \(\).*expected \(4,\)",
        ),
        (
            lambda: density_function(cubic, first=lambda r: 1.0).probe(RHO),
            ValueError,
            "`first` returned shape",
        ),
        (
            lambda: density_function(cubic, second=lambda r: None).second(RHO),
            TypeError,
            "`second` returned None",
        ),
    ],
)
def test_wrong_functions_of_a_density_are_refused(call, error, message):
    pytest.importorskip("torch")
    with pytest.raises(error, match=message):
        call()


def test_a_function_that_writes_into_the_density_is_noticed():
    def writes(rho):
        rho *= 2
        return rho

    with pytest.raises(ValueError, match="`U` writes into its argument"):
        density_function(writes).probe(RHO.copy(), derivatives=0)


def test_parameters_of_a_density_are_changed_by_name():
    U = density_function("k*exp(rho)", parameters={"k": 2.0})
    V = U.with_parameters({"k": 3.0})
    np.testing.assert_allclose(V.value(RHO) / U.value(RHO), 1.5)
    assert density_function(U, parameters={"k": 4.0}).parameters == {"k": 4.0}
    assert density_function(V) is V
    with pytest.raises(ValueError, match="no parameter\\(s\\) 'q'; known: k"):
        U.with_parameters({"q": 1.0})


@pytest.mark.parametrize(
    ("text", "convex"),
    [
        ("rho*log(rho)", True),
        ("rho**2", True),
        ("-rho**0.5", True),
        ("rho", True),
        ("-rho**2", False),
        ("rho**3 - rho**2", False),
        ("cos(rho)", False),
    ],
)
def test_convexity_is_sampled(text, convex):
    assert convex_on_positive(density_function(text)) is convex


@pytest.mark.parametrize("U", FUNCTIONS, ids=repr)
def test_functions_pickle_and_copy(U):
    for V in (pickle.loads(pickle.dumps(U)), copy.deepcopy(U)):
        np.testing.assert_array_equal(V.first(RHO), U.first(RHO))
        assert repr(V) == repr(U)


def test_representations_and_latex_show_the_formula():
    assert repr(EntropyFunction()) == '"rho*log(rho)"'
    assert repr(EntropyFunction(0.5, -1.0)) == '"0.5*rho*log(rho) - 1.0*rho"'
    assert repr(PowerFunction(2)) == "PowerFunction(2)"
    assert "coefficient=2.0" in repr(PowerFunction(2, 2.0))
    assert repr(density_function("exp(rho)")) == '"exp(rho)"'
    typed = repr(density_function("k*exp(rho)", parameters={"k": 1.0}))
    assert typed == "\"k*exp(rho)\", parameters={'k': 1.0}"
    assert PowerFunction(2).latex() == r"\rho^{2}"
    assert EntropyFunction().latex() == r"\rho \log{\left(\rho \right)}"
