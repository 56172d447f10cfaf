"""First variations and evolution equations, tested on exact solutions."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from flows import symbolic
from flows.symbolic import (
    Convolution,
    EntropyFunction,
    PowerFunction,
    QuadraticField,
    SeparableField,
    coordinates,
    density_function,
    field,
    first_variation,
    latex_energy,
    pde,
)

T = symbolic.TIME


def _density(d):
    return sympy.Function("rho", real=True)(T, *coordinates(d))


def _residual(equation, solution, values):
    """Residual of an equation for a closed formula, at a point."""
    d = len(equation.lhs.expr.args) - 1
    found = (equation.lhs - equation.rhs).subs(_density(d), solution).doit()
    return abs(float(found.subs(values)))


def _at(d):
    point = [0.4, -0.3, 0.2][:d]
    return dict(zip(coordinates(d), point, strict=True)) | {T: 0.7}


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_ornstein_uhlenbeck_law_solves_its_equation(d):
    terms = [("entropy", 0.5, EntropyFunction()), ("potential", 2.0, field("r**2/2"))]
    v = sympy.Rational(1, 4) + sympy.Rational(3, 4) * sympy.exp(-4 * T)
    square = sum(x**2 for x in coordinates(d))
    law = (2 * sympy.pi * v) ** sympy.Rational(-d, 2) * sympy.exp(-square / (2 * v))
    assert _residual(pde(terms, d), law, _at(d)) < 1e-13
    wrong = [("entropy", 0.4, EntropyFunction()), terms[1]]
    assert _residual(pde(wrong, d), law, _at(d)) > 1e-3


@pytest.mark.parametrize(("m", "d"), [(2, 1), (3, 1), (2, 2), (3, 3)])
def test_the_barenblatt_profile_solves_the_porous_medium_equation(m, d):
    a = sympy.Rational(d, d * (m - 1) + 2)
    b = a / d
    k = b * (m - 1) / (2 * m)
    square = sum(x**2 for x in coordinates(d))
    profile = T**-a * (2 - k * square * T ** (-2 * b)) ** sympy.Rational(1, m - 1)
    for function in (PowerFunction(m), density_function(f"rho**{m}/({m} - 1) + 3*rho")):
        equation = pde([("internal", 1.0, function)], d)
        assert _residual(equation, profile, _at(d)) < 1e-13


def test_the_linear_form_is_printed_as_in_a_paper():
    terms = [
        ("entropy", 0.25, EntropyFunction()),
        ("potential", 1.0, field("(x**2 - 1)**2/4")),
    ]
    (x,) = coordinates(1)
    rho = _density(1)
    equation = pde(terms)
    diffusion, drift = sorted(equation.rhs.args, key=lambda e: e.is_Mul, reverse=True)
    assert diffusion == sympy.Derivative(rho, (x, 2)) / 4
    assert drift.expr == rho * x * (x**2 - 1)
    assert equation.lhs == sympy.Derivative(rho, T)
    assert r"\left[x \left(x^{2} - 1\right) \rho" in sympy.latex(equation)


def test_interactions_act_through_the_gradient_of_their_kernel():
    equation = pde([("interaction", 2.0, field("r**2/2 - log(r)", name="W"))])
    (x,) = coordinates(1)
    rho = _density(1)
    assert equation.rhs.expr == rho * Convolution(2 * x - 2 / x, rho)
    text = sympy.latex(equation)
    assert r"\left(2 x - \frac{2}{x}\right) * \rho" in text
    assert "* rho(t, x)" in str(equation)


def test_a_convolution_is_an_integral_over_space():
    (x,) = coordinates(1)
    rho = _density(1)
    convolution = Convolution(x**2, rho)
    integral = convolution.as_integral()
    # The second moment around x of a standard Gaussian is 1 + x^2.
    law = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
    there = integral.variables[0]
    found = integral.subs(rho.subs(x, there), law.subs(x, there)).doit()
    assert sympy.simplify(found - 1 - x**2) == 0
    assert convolution.diff(x) == Convolution(2 * x, rho)
    assert convolution.diff(T) == Convolution(x**2, rho.diff(T))
    assert Convolution(sympy.Integer(0), rho) == 0
    assert convolution.is_extended_real
    assert sympy.latex(convolution**2).endswith("^{2}")


def test_the_first_variation_adds_up_its_terms():
    x, y = coordinates(2)
    rho = _density(2)
    terms = [
        ("potential", 2.0, SeparableField("x**2/2")),
        ("entropy", 0.5, EntropyFunction()),
        ("internal", 3.0, PowerFunction(3)),
        ("interaction", 1.0, field("r**2/2", name="W")),
    ]
    found = first_variation(terms, 2)
    expected = x**2 + y**2 + (sympy.log(rho) + 1) / 2 + sympy.Rational(9, 2) * rho**2
    expected += Convolution(x**2 / 2 + y**2 / 2, rho)
    assert sympy.expand(found - expected) == 0


def test_the_equation_is_the_flow_of_the_first_variation():
    terms = [
        ("potential", 1.5, field("x**2*y + t*x")),
        ("entropy", 0.3, EntropyFunction()),
        ("internal", 0.7, density_function("exp(rho) + rho**1.5")),
    ]
    law = sympy.exp(-sum(x**2 for x in coordinates(2))) + T
    rho = _density(2)
    variation = first_variation(terms).subs(rho, law)
    rhs = sum((law * variation.diff(x)).diff(x) for x in coordinates(2))
    found = pde(terms).rhs.subs(rho, law).doit()
    assert abs(float((found - rhs).subs(_at(2)))) < 1e-12


def test_callables_appear_by_their_names():
    terms = [
        ("potential", 1.0, field(lambda x, t: x[..., 0], time_dependent=True)),
        ("internal", 2.0, density_function(lambda rho: rho**2)),
        ("interaction", 1.0, field(lambda x: x[..., 0], name="W")),
    ]
    text = str(pde(terms, 2))
    assert "Derivative(V(x, y, t), x)" in text
    assert "2*Derivative(p_U(rho(t, x, y)), (x, 2))" in text
    assert "Derivative(W(x, y), y)" in text
    assert "2*U'(rho(t, x, y))" in str(first_variation(terms, 2))


def test_the_dimension_is_that_of_the_names():
    assert len(pde([("potential", 1.0, field("x*y"))]).lhs.expr.args) == 3
    assert len(pde([("potential", 1.0, field("r"))]).lhs.expr.args) == 2
    assert len(pde([("potential", 1.0, QuadraticField(np.eye(3)))]).lhs.expr.args) == 4
    with pytest.raises(ValueError, match="names no coordinate beyond x"):
        pde([("potential", 1.0, field("x"))], 2)
    with pytest.raises(ValueError, match="`d` must be a positive integer"):
        pde([("potential", 1.0, field("r"))], 0)
    with pytest.raises(ValueError, match="`d` must be a positive integer"):
        first_variation([("potential", 1.0, field("r"))], 1.5)


def test_a_constant_potential_moves_nothing():
    assert pde([("potential", 1.0, field(3.0))]).rhs == 0


def test_energies_print_as_integrals():
    terms = [
        ("potential", 1.0, field("(x**2 - 1)**2/4")),
        ("entropy", 0.3, EntropyFunction()),
        ("internal", -1.0, PowerFunction(2)),
        ("interaction", 1.0, field("r**2/2 - log(r)", name="W")),
    ]
    text = latex_energy(terms)
    assert text.startswith(r"\int \left(\frac{\left(x^{2} - 1\right)^{2}}{4}\right)\,d")
    assert r" + 0.3\,\int \rho \log" in text
    assert r" - \int \rho^{2}\,dx" in text
    assert r"\frac{1}{2}\,\iint W(x - y)\,d\rho(x)\,d\rho(y)" in text
    assert text.endswith(r",\quad W(x) = \frac{r^{2}}{2} - \log{\left(r \right)}")
    two = latex_energy([("interaction", 2.0, field("r", name="W"))] * 2)
    assert two.startswith(r"\iint W_{1}(x - y)")
    assert r" + \iint W_{2}(x - y)" in two
    negative = latex_energy([("potential", -2.0, field("x"))])
    assert negative == r"- 2\,\int x\,d\rho"
    assert latex_energy([]) == "0"


def test_unknown_attributes_of_the_package_are_errors():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = symbolic.nothing
