"""Energies: algebra, text, values on measures, parameters, equations, derivatives."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import sympy

import flows as fl
from flows.energies import Sum, Term, total_temperature

V = fl.Potential("x**2/2")
W = fl.Interaction("x**2/2")
S = fl.Entropy(0.3)
U = fl.porous_medium(2.0)
NORMAL = fl.Gaussian(0.5, 0.8)
x, t = sympy.Symbol("x", real=True), sympy.Symbol("t", real=True)
RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(2)


def quartic(x):
    return 0.25 * (x**4).sum(-1)


def quartic_gradient(x):
    return x**3


def bump(z):
    return (z**2).sum(-1) ** 2


def cubic(rho):
    return rho**3


def cubic_first(rho):
    return 3 * rho**2


def soft(x, h):
    return np.sign(x) * np.maximum(np.abs(x) - h, 0.0)


def test_sums_hold_their_terms_in_order():
    F = V + S + W + U
    assert isinstance(F, Sum)
    assert [type(term).__name__ for term in F.terms] == [
        "Potential",
        "Entropy",
        "Interaction",
        "Internal",
    ]
    assert ((V + S) + (W + U)).terms == F.terms
    assert V.terms == (V,)


@pytest.mark.parametrize(
    ("energy", "factor"),
    [
        (2 * V, 2.0),
        (V * 2, 2.0),
        (V / 4, 0.25),
        (-V, -1.0),
        (3 * V / 2, 1.5),
        (np.float64(2.0) * V, 2.0),
        (V * np.float32(0.5), 0.5),
        (np.int64(3) * V, 3.0),
        (Fraction(1, 4) * V, 0.25),
    ],
    ids=str,
)
def test_multiples_of_a_term_are_terms(energy, factor):
    assert isinstance(energy, fl.Potential)
    assert type(energy.scale) is float
    assert energy.scale == factor
    assert energy.value_at(np.array([3.0])) == factor * 4.5
    assert energy.gradient_at(np.array([3.0])) == factor * 3.0
    assert energy.hessian_at(np.array([3.0])) == factor


def test_multiples_and_differences_go_through_sums():
    F = 2 * (V + S - U / 2)
    assert [term.scale for term in F.terms] == [2.0, 0.6, -1.0]
    G = V - (V + W)
    assert [term.scale for term in G.terms] == [1.0, -1.0, -1.0]
    assert F(NORMAL) == pytest.approx(2 * V(NORMAL) + 2 * S(NORMAL) - U(NORMAL))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: V * True,
        lambda: True * V,
        lambda: V / True,
        lambda: V * "2",
        lambda: V + 1,
        lambda: 1 + V,
        lambda: V - 1,
        lambda: V * V,
        lambda: V * 1j,
        lambda: V / "2",
        lambda: np.array([1.0, 2.0]) * V,
        lambda: V * None,
    ],
)
def test_only_numbers_multiply_and_only_energies_add(wrong):
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply sequence"):
        wrong()


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, np.float64("nan")])
def test_factors_must_be_finite(number):
    with pytest.raises(ValueError, match=r"An energy times .* is not an energy"):
        number * (V + S)
    with pytest.raises(ValueError, match=r"An energy divided by .* is not an energy"):
        V / number
    with pytest.raises(ValueError, match=r"`scale` must be finite"):
        fl.Potential("x", scale=number)


def test_division_by_zero_and_overflow_are_refused():
    with pytest.raises(ValueError, match=r"divided by 0 is not an energy"):
        V / 0
    with pytest.raises(ValueError, match=r"`scale` must be finite, got inf"):
        1e200 * (1e200 * V)


@pytest.mark.parametrize(
    ("energy", "text"),
    [
        (V, 'Potential("x**2/2")'),
        (2 * V, '2*Potential("x**2/2")'),
        (-V, '-Potential("x**2/2")'),
        (V / 3, '0.3333333333333333*Potential("x**2/2")'),
        (S, "Entropy(0.3)"),
        (2 * fl.Entropy(), "Entropy(2)"),
        (-S, "-Entropy(0.3)"),
        (V + S, 'Potential("x**2/2") + Entropy(0.3)'),
        (V - S, 'Potential("x**2/2") - Entropy(0.3)'),
        (S - 2 * W, 'Entropy(0.3) - 2*Interaction("x**2/2")'),
        (U, "porous_medium(2)"),
        (3 * fl.porous_medium(2.5), "3*porous_medium(2.5)"),
        (fl.Internal("rho**3 + rho"), 'Internal("rho**3 + rho")'),
        (
            fl.Internal("a*rho**3", parameters={"a": 2.0}),
            "Internal(\"a*rho**3\", parameters={'a': 2.0})",
        ),
        (
            fl.Potential("k*x", parameters={"k": 3.0}),
            "Potential(\"k*x\", parameters={'k': 3.0})",
        ),
        (fl.quadratic([1.0, 2.0], b=1.0), "quadratic([1.0, 2.0], b=1.0)"),
        (fl.separable("abs(x)"), 'separable("abs(x)")'),
        (fl.kl("x**4"), 'Entropy(1) + Potential("x**4")'),
        (fl.Potential(3), "Potential(3.0)"),
    ],
)
def test_text_is_short_and_gives_the_energy_back_when_typed(energy, text):
    assert repr(energy) == text
    names = {name: getattr(fl, name) for name in fl.__all__}
    again = eval(text, {"__builtins__": {}}, names)
    assert repr(again) == text
    assert [a.scale for a in again.terms] == [a.scale for a in energy.terms]


def test_text_of_callables_and_measures_names_them():
    assert repr(fl.Potential(quartic)) == "Potential(quartic)"
    assert repr(fl.Interaction(bump)) == "Interaction(bump)"
    assert repr(fl.Internal(cubic)) == "Internal(cubic)"
    assert "GaussianPotential" in repr(fl.kl(NORMAL))


@pytest.mark.parametrize("std", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("T", [1.0, 0.25])
def test_entropy_of_a_gaussian(std, T):
    # int rho log rho = -log(sigma sqrt(2 pi e)).
    exact = -T * math.log(std * math.sqrt(2 * math.pi * math.e))
    assert fl.Entropy(T)(fl.Gaussian(1.0, std)) == pytest.approx(exact, rel=1e-12)
    typed = T * fl.Internal("rho*log(rho)")
    assert typed(fl.Gaussian(1.0, std)) == pytest.approx(exact, rel=1e-12)


def test_entropy_of_a_correlated_gaussian_has_half_the_log_determinant():
    C = np.array([[0.5, 0.2], [0.2, 0.4]])
    exact = -0.5 * math.log((2 * math.pi * math.e) ** 2 * np.linalg.det(C))
    assert fl.Entropy()(fl.Gaussian([1.0, 2.0], C)) == pytest.approx(exact, rel=1e-10)


def test_entropy_has_the_same_value_in_either_spelling():
    typed = fl.Internal("2*rho*log(rho)")
    assert typed.temperature == 2.0
    assert typed(NORMAL) == pytest.approx(fl.Entropy(2.0)(NORMAL), rel=1e-12)
    assert total_temperature(typed + 3 * S + V) == pytest.approx(2.9, rel=1e-15)
    assert U.temperature is None
    assert V.temperature is None


@pytest.mark.parametrize("m", [0.6, 1.5, 2.0, 3.0])
def test_powers_of_a_gaussian_density(m):
    # int rho^m = (2 pi s^2)^((1 - m)/2) / sqrt(m).
    exact = (2 * math.pi * 0.64) ** ((1 - m) / 2) / math.sqrt(m) / (m - 1)
    assert fl.porous_medium(m)(NORMAL) == pytest.approx(exact, rel=1e-10)
    typed = fl.Internal("rho**m/(m - 1)", parameters={"m": m})
    assert typed(NORMAL) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize(
    ("formula", "exact"),
    [
        ("x", 0.5),
        ("x**2/2", 0.5 * (0.64 + 0.25)),
        ("x**4", 0.5**4 + 6 * 0.25 * 0.64 + 3 * 0.64**2),
        ("exp(x)", math.exp(0.5 + 0.32)),
        ("cos(x)", math.cos(0.5) * math.exp(-0.32)),
        ("3", 3.0),
    ],
)
def test_potentials_of_a_gaussian(formula, exact):
    assert fl.Potential(formula)(NORMAL) == pytest.approx(exact, rel=1e-11)


def test_interactions_have_the_factor_one_half():
    # X - Y has variance 2 s^2: 1/2 E|X - Y|^2/2 = s^2/2, 1/2 E|X - Y| = s/sqrt(pi).
    assert W(NORMAL) == pytest.approx(0.32, rel=1e-11)
    kink = fl.Interaction("abs(x)")
    assert kink(NORMAL) == pytest.approx(0.8 / math.sqrt(math.pi), rel=1e-9)
    pair = fl.Empirical(np.array([[0.0], [2.0]]))
    assert W(pair) == pytest.approx(0.5 * 0.5 * 2.0)
    # W(0) counts when it is finite.
    assert fl.Interaction("cos(x)")(fl.Dirac(1.0)) == 0.5


def test_values_of_points_and_sums():
    assert (3 * V + fl.Potential("x"))(fl.Dirac(2.0)) == 8.0
    F = fl.Potential("x*y") + fl.quadratic([1.0, 4.0])
    assert F(fl.Dirac([1.0, -2.0])) == pytest.approx(-2.0 + 8.5)


def test_densities_have_no_value_at_a_point():
    with pytest.raises(TypeError, match=r"Dirac\(0\) has no density"):
        (V + S)(fl.Dirac(0.0))
    with pytest.raises(ValueError, match="takes points with 2 coordinate"):
        fl.quadratic([1.0, 2.0])(fl.Dirac(0.0))


@pytest.mark.parametrize(
    "measure",
    [
        fl.Gaussian(1.0, 2.0),
        fl.Gaussian([1.0, 0.0], np.array([[1.0, 0.3], [0.3, 0.5]])),
        fl.Mixture([fl.Gaussian(-1.0, 0.5), fl.Gaussian(1.0, 0.7)], [0.3, 0.7]),
        fl.Density("exp(-x**4)"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("T", [1.0, 0.3])
def test_relative_entropy_vanishes_at_its_measure(measure, T):
    assert fl.kl(measure, T=T)(measure) == pytest.approx(0.0, abs=1e-10)
    if measure.d == 1:
        assert fl.kl(measure, T=T)(fl.Gaussian(0.7, 0.6)) > 0.0


def test_relative_entropy_of_gaussians():
    # KL(N(m, s) | N(a, q)) = log(q/s) + (s^2 + (m - a)^2)/2q^2 - 1/2.
    exact = math.log(2 / 0.8) + (0.64 + 0.25) / 8 - 0.5
    assert fl.kl(fl.Gaussian(1.0, 2.0))(NORMAL) == pytest.approx(exact, rel=1e-10)
    assert fl.kl(fl.Gaussian(1.0, 2.0), T=3)(NORMAL) == pytest.approx(3 * exact)


def test_relative_entropy_of_a_potential_has_its_temperature_once():
    F = fl.kl("x**2/2", T=0.25)
    assert repr(F) == 'Entropy(0.25) + Potential("x**2/2")'
    assert [term.scale for term in fl.kl(2 * V, T=0.25).terms] == [0.25, 2.0]


def test_relative_entropy_needs_a_differentiable_density():
    with pytest.raises(TypeError, match="no differentiable log-density"):
        fl.kl(fl.Uniform(0.0, 1.0))


def test_porous_medium_takes_every_potential():
    for potential in ("x**2/2", V, fl.quadratic(1.0), quartic):
        F = fl.porous_medium(3.0, potential)
        assert [type(term) for term in F.terms] == [fl.Internal, fl.Potential]
    assert fl.porous_medium(3, V + W).terms[1:] == (V, W)
    rho = np.array([0.0, 0.5, 2.0])
    internal = fl.porous_medium(3.0)
    assert internal.value_at(rho) == pytest.approx(rho**3 / 2)
    assert internal.first_at(rho) == pytest.approx(1.5 * rho**2)
    assert internal.second_at(rho) == pytest.approx(3 * rho)
    assert internal.pressure_at(rho) == pytest.approx(rho**3)


@pytest.mark.parametrize("m", [1, 0, -2.0, math.nan])
def test_porous_medium_refuses_exponents(m):
    with pytest.raises(ValueError, match="must be positive and not 1"):
        fl.porous_medium(m)


def test_a_quadratic_of_a_vector_is_diagonal():
    points = RNG.normal(size=(5, 2))
    a, b = fl.quadratic([1.0, 4.0]), fl.quadratic(np.diag([1.0, 4.0]))
    assert a.value_at(points) == pytest.approx(b.value_at(points))
    assert a.hessian_at(points[0]) == pytest.approx(np.diag([1.0, 4.0]))
    c = fl.quadratic([1.0, 4.0], center=[1.0, 0.0], b=[0.0, 2.0])
    assert c.gradient_at(np.array([2.0, 1.0])) == pytest.approx([1.0, 2.0])
    assert fl.quadratic().gradient_at(points) == pytest.approx(points)


def test_separable_fits_every_dimension():
    F = fl.separable("k*x**4/4", parameters={"k": 2.0})
    for d in (1, 3):
        points = RNG.normal(size=(4, d))
        assert F.value_at(points) == pytest.approx((points**4).sum(-1) / 2)
        assert F.gradient_at(points) == pytest.approx(2 * points**3)
    assert F.with_parameters({"k": 4.0}).value_at(np.ones(3)) == 3.0


def test_parameters_change_where_they_are_named():
    F = fl.Entropy(0.1) + 2 * fl.Potential("k*x**2", parameters={"k": 1.0})
    F = F + fl.Interaction("a*x**2 + k*x**4", parameters={"a": 1.0, "k": 3.0})
    G = F.with_parameters({"k": 5.0})
    one = np.array([1.0])
    assert G.terms[0] is F.terms[0]
    assert G.terms[1].value_at(one) == 10.0
    assert G.terms[2].value_at(one) == 6.0
    assert F.terms[1].value_at(one) == 2.0
    single = fl.Internal("rho**m/(m - 1)", parameters={"m": 2.0})
    assert isinstance(single.with_parameters({"m": 3.0}), fl.Internal)
    assert single.with_parameters({"m": 3.0}).value_at(np.array([2.0])) == 4.0


def test_unknown_parameters_are_refused():
    F = S + fl.Potential("k*x**2", parameters={"k": 1.0})
    with pytest.raises(ValueError, match=r"No term has the parameter\(s\) j; known: k"):
        F.with_parameters({"k": 1.0, "j": 2.0})
    with pytest.raises(ValueError, match="known: none"):
        V.with_parameters({"k": 1.0})


def divergence_form(energy, rho):
    return energy.pde().subs(sympy.Function("rho", real=True)(t, x), rho).doit()


def test_the_equation_of_every_term_is_the_one_written_by_hand():
    rho = sympy.Function("rho", real=True)(t, x)
    F = fl.Entropy(0.5) + fl.Potential("x**4/4") + fl.porous_medium(2.0)
    by_hand = (
        sympy.Rational(1, 2) * rho.diff(x, 2)
        + (rho**2).diff(x, 2)
        + (rho * x**3).diff(x)
    )
    equation = F.pde()
    assert equation.lhs == rho.diff(t)
    assert sympy.simplify(equation.rhs.doit() - by_hand) == 0


@pytest.mark.parametrize(
    ("energy", "solution"),
    [
        # The heat kernel, Ornstein-Uhlenbeck from a point, and Barenblatt's profile.
        (fl.Entropy(), sympy.exp(-(x**2) / (4 * t)) / sympy.sqrt(4 * sympy.pi * t)),
        (
            fl.kl("x**2/2"),
            sympy.exp(-((x - sympy.exp(-t)) ** 2) / (2 * (1 - sympy.exp(-2 * t))))
            / sympy.sqrt(2 * sympy.pi * (1 - sympy.exp(-2 * t))),
        ),
        (
            fl.porous_medium(2.0),
            t ** sympy.Rational(-1, 3) * (1 - x**2 / (12 * t ** sympy.Rational(2, 3))),
        ),
    ],
    ids=["heat", "Ornstein-Uhlenbeck", "Barenblatt"],
)
def test_known_solutions_solve_the_equation(energy, solution):
    equation = divergence_form(energy, solution)
    gap = equation.lhs - equation.rhs
    for at in ((0.7, 0.3), (1.5, -0.8)):
        assert abs(sympy.N(gap.subs({t: at[0], x: at[1]}))) < 1e-12


def test_first_variations_are_the_ones_written_by_hand():
    rho = sympy.Function("rho", real=True)(t, x)
    F = 2 * fl.Potential("x**2") + fl.Entropy(3.0) + fl.porous_medium(2.0)
    by_hand = 2 * x**2 + 3 * (sympy.log(rho) + 1) + 2 * rho
    assert sympy.simplify(F.first_variation() - by_hand) == 0
    full = F + fl.Interaction("x**2/2")
    assert "rho" in str(full.first_variation() - F.first_variation())


def test_equations_have_the_dimension_that_a_term_names():
    y = sympy.Symbol("y", real=True)
    plane = (S + fl.Potential("x**2 + y**2")).pde()
    assert {x, y, t} <= plane.free_symbols
    assert y in fl.Entropy().pde(d=2).free_symbols
    with pytest.raises(ValueError, match="`d` must be a positive integer"):
        S.pde(d=0)


def test_notebooks_show_the_functional():
    text = (2 * S + V - 3 * W)._repr_latex_()
    assert text.startswith("$")
    assert text.endswith("$")
    for part in (r"\rho \log", r"d\rho", r"\iint", r"\frac{3}{2}"):
        assert part in text
    assert text.count("{") == text.count("}")
    assert r"\left|" in fl.quadratic()._repr_latex_()


def test_time_enters_by_name_or_by_word():
    moving = fl.Potential("(x - sin(t))**2/2")
    assert moving.time_dependent
    assert (S + moving).depends_on_time
    assert not (S + V).depends_on_time
    at = np.array([1.0])
    assert moving.value_at(at, 0.5) == pytest.approx((1 - math.sin(0.5)) ** 2 / 2)
    assert moving.gradient_at(at, 0.5) == pytest.approx(1 - math.sin(0.5))
    assert moving(fl.Dirac(1.0), 0.5) == pytest.approx((1 - math.sin(0.5)) ** 2 / 2)
    typed = fl.Potential(lambda x, t: t * x[..., 0], time_dependent=True)
    assert typed.value_at(at, 3.0) == 3.0
    assert (2 * typed).time_dependent


RECIPES = {
    "text": (fl.Potential("(x**2 - 1)**2/4 + x*y + exp(-y**2)"), 2),
    "radius": (fl.Potential("r**3 + log(1 + r**2)"), 3),
    "sympy": (fl.Potential(sympy.sin(x) + x**4), 1),
    "parameters": (fl.Potential("k*cos(x)", parameters={"k": 1.7}), 1),
    "torch": (fl.Potential(quartic), 3),
    "own gradient": (fl.Potential(quartic, gradient=quartic_gradient), 2),
    "scaled": (-2.5 * fl.Potential("x**3"), 1),
    "quadratic": (fl.quadratic([[2.0, 0.5], [0.5, 1.0]], center=1.0, b=0.3), 2),
    "diagonal": (fl.quadratic([1.0, 2.0, 3.0]), 3),
    "separable": (fl.separable("x**4 - x"), 3),
    "constant": (fl.Potential(2.0), 2),
    "relative entropy": (fl.kl(fl.Gaussian([0.0, 1.0], [1.0, 2.0])).terms[1], 2),
    "mixture": (
        fl.kl(fl.Mixture([fl.Gaussian(-1.0, 0.5), fl.Gaussian(1.0, 1.0)])).terms[1],
        1,
    ),
    "density": (fl.kl(fl.Density("exp(-x**4)")).terms[1], 1),
    "interaction": (fl.Interaction("exp(-r**2) + r**4"), 2),
    "logarithm": (fl.Interaction("-log(abs(x))"), 1),
    "callable interaction": (fl.Interaction(bump), 2),
}


@pytest.mark.parametrize(("term", "d"), RECIPES.values(), ids=list(RECIPES))
def test_derivatives_agree_with_differences(term, d):
    points, e = RNG.uniform(0.3, 1.5, size=(6, d)), 1e-5
    for i in range(d):
        step = e * np.eye(d)[i]
        slope = (term.value_at(points + step) - term.value_at(points - step)) / (2 * e)
        assert term.gradient_at(points)[:, i] == pytest.approx(
            slope, rel=1e-6, abs=1e-7
        )
        row = (term.gradient_at(points + step) - term.gradient_at(points - step)) / (
            2 * e
        )
        assert term.hessian_at(points)[:, i] == pytest.approx(row, rel=1e-6, abs=1e-6)


DENSITIES = {
    "entropy": fl.Entropy(0.7),
    "power": fl.porous_medium(2.5),
    "fast diffusion": fl.porous_medium(0.5),
    "typed": fl.Internal("rho**2 + rho*log(rho)"),
    "scaled": 3 * fl.Internal("exp(rho)"),
    "torch": fl.Internal(cubic),
    "own derivative": fl.Internal(cubic, first=cubic_first),
}


@pytest.mark.parametrize("term", DENSITIES.values(), ids=list(DENSITIES))
def test_derivatives_in_the_density_agree_with_differences(term):
    rho, e = np.array([0.2, 0.9, 2.3]), 1e-6
    first = (term.value_at(rho + e) - term.value_at(rho - e)) / (2 * e)
    second = (term.first_at(rho + e) - term.first_at(rho - e)) / (2 * e)
    assert term.first_at(rho) == pytest.approx(first, rel=1e-6)
    assert term.second_at(rho) == pytest.approx(second, rel=1e-6)
    pressure = rho * term.first_at(rho) - term.value_at(rho)
    # The entropy is known up to a multiple of rho, which has no pressure.
    assert term.pressure_at(rho) == pytest.approx(pressure, rel=1e-12)


# A Hessian by differences of the user's gradient has 1e-9 only.
@pytest.mark.parametrize(("dtype", "tol"), [("float64", 1e-9), ("float32", 1e-4)])
def test_tensors_and_arrays_give_equal_numbers(dtype, tol):
    torch = pytest.importorskip("torch")
    points = RNG.uniform(0.5, 1.0, size=(4, 2)).astype(dtype)
    for term, d in RECIPES.values():
        if d != 2:
            continue
        for name in ("value_at", "gradient_at", "hessian_at"):
            a = getattr(term, name)(points)
            b = getattr(term, name)(torch.from_numpy(points))
            assert a.dtype == dtype
            assert b.dtype == getattr(torch, dtype)
            assert b.numpy() == pytest.approx(a, rel=tol, abs=0.1 * tol)


@pytest.mark.parametrize(
    "energy",
    [
        V + S + W + U,
        -2 * V,
        fl.kl(NORMAL),
        fl.Potential(quartic, gradient=quartic_gradient),
        fl.Potential("abs(x)", prox=soft),
        fl.Potential("k*x**2", parameters={"k": 2.0}),
        fl.quadratic([1.0, 2.0]),
        fl.separable("x**2"),
        fl.Internal("rho**2 + rho**3"),
        fl.kl(fl.Density("exp(-x**4)")),
    ],
    ids=repr,
)
def test_energies_pickle_with_their_functions(energy):
    again = pickle.loads(pickle.dumps(energy))
    assert repr(again) == repr(energy)
    points, rho = np.array([[0.3, 0.7]]), np.array([0.4])
    for a, b in zip(energy.terms, again.terms, strict=True):
        if hasattr(a, "gradient_at"):
            d = a.function.dimension or 1
            assert (a.gradient_at(points[:, :d]) == b.gradient_at(points[:, :d])).all()
        else:
            assert (a.first_at(rho) == b.first_at(rho)).all()


def test_energies_are_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        V.scale = 2.0


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: fl.Potential(None), TypeError, "`V` must be a string such as"),
        (lambda: fl.Potential(True), TypeError, "got bool"),
        (lambda: fl.Potential("k*x"), ValueError, r"unknown name\(s\) 'k'"),
        (lambda: fl.Potential("x", scale="2"), TypeError, "`scale` must be a number"),
        (lambda: fl.Potential("x", scale=True), TypeError, "`scale` must be a number"),
        (lambda: fl.Potential("x", prox=3), TypeError, "`prox` must be callable"),
        (lambda: fl.Potential("x", gradient=soft), TypeError, "belong to a callable"),
        (
            lambda: fl.Potential("x", time_dependent=True),
            ValueError,
            "does not depend on time",
        ),
        (
            lambda: fl.Interaction("x*t"),
            ValueError,
            "depends on time; only a Potential",
        ),
        (lambda: fl.Interaction("x**3"), ValueError, "is not even"),
        (lambda: fl.Interaction("x*y + y"), ValueError, "is not even"),
        (
            lambda: fl.Interaction(fl.quadratic(1.0, b=1.0).function),
            ValueError,
            "is not even",
        ),
        (lambda: fl.Internal(3), TypeError, "`U` must be a string in the density"),
        (lambda: fl.Internal("x**2"), ValueError, r"unknown name\(s\) 'x'"),
        (lambda: fl.Internal("rho", first=cubic), TypeError, "belong to a callable"),
        (lambda: fl.Entropy("1"), TypeError, "temperature `T` must be a number"),
        (lambda: fl.Entropy(True), TypeError, "temperature `T` must be a number"),
        (lambda: fl.Entropy(-1.0), ValueError, "must be finite and >= 0"),
        (lambda: fl.Entropy(math.inf), ValueError, "must be finite and >= 0"),
        (
            lambda: fl.quadratic([[1.0, 2.0], [0.0, 1.0]]),
            ValueError,
            "must be symmetric",
        ),
        (lambda: fl.quadratic("x"), TypeError, "must be a number or an array"),
        (lambda: fl.separable("x*y"), ValueError, "y"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_the_bases_have_no_terms_of_their_own():
    with pytest.raises(NotImplementedError):
        fl.Energy().terms  # noqa: B018
    with pytest.raises(NotImplementedError):
        Term().value_on(NORMAL, 0.0)
