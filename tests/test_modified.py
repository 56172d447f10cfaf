"""Modified equations: coefficients, observed orders, energies, exact quadratics."""

import pickle

import numpy as np
import pytest
import sympy
from scheme_toys import observed

import flows as fl
from flows import schemes as fs
from flows.theory import Momentum, modified_equation, modified_quadratic
from flows.theory.modified.series import (
    basis,
    modified_coefficients,
    rootings,
    scheme_coefficients,
    size,
    symmetry,
)

SPACE = fl.Euclidean()
WELL = fl.Potential("(x**2 - 1)**2/4 + (y - x**2)**2/2")
START = np.array([0.3, 1.2])
PLAYERS = fl.learning.game(
    {"a": fl.Potential("x*y"), "b": -fl.Potential("x*y")}, {"a": [0], "b": [1]}
)


def torch_well(x):
    return (x[..., 0] ** 2 - 1) ** 2 / 4 + (x[..., 1] - x[..., 0] ** 2) ** 2 / 2


def order_of(scheme, terms, sizes, energy=WELL, model=WELL):
    equation = modified_equation(scheme, model, terms)
    errors = []
    for h in sizes:
        end = fl.solve(SPACE.flow(energy), START, (0, 1), scheme, dt=h).u[-1]
        exact = fl.solve(equation.flow(h), START, (0, 1), fl.DOP853(), dt=0.05).u[-1]
        errors.append(np.abs(end - exact).max())
    return observed(sizes, errors)


COARSE = (1 / 10, 1 / 20, 1 / 40, 1 / 80)
FINE = (1 / 40, 1 / 80, 1 / 160, 1 / 320)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_numbers_of_trees_and_their_symmetries(order):
    trees = [t for t in basis(5).trees if size(t) == order]
    assert len(trees) == (1, 1, 2, 4, 9)[order - 1]
    # Cayley: the labelings of all rooted trees are order^(order - 1).
    total = sum(np.prod(range(1, order + 1)) / symmetry(t) for t in trees)
    assert total == order ** (order - 1)
    assert all(len(rootings(t)) == order for t in trees)
    assert all(size(r) == order for t in trees for r in rootings(t))


def test_colored_trees_are_counted():
    levels = [sum(size(t) == n for t in basis(3, 2).trees) for n in (1, 2, 3)]
    assert levels == [2, 4, 14]


def test_the_exact_flow_of_the_modified_field_is_the_step():
    trees = basis(5)
    for scheme in (fl.Euler(), fl.RK4(), fl.TRBDF2(), fl.SDIRK3(), fs.Rosenbrock()):
        a = scheme_coefficients(scheme, trees)
        b = modified_coefficients(trees, a)
        assert np.abs(trees.flow(b, 1.0) - a).max() < 1e-14


def test_series_of_a_jacobian_is_the_derivative_of_the_velocity():
    trees, rng = basis(5), np.random.default_rng(0)
    u = trees.identity() + np.r_[0.0, rng.normal(size=len(trees.trees))]
    w = np.r_[0.0, rng.normal(size=len(trees.trees))]
    e = 1e-6
    change = (trees.velocity(u + e * w) - trees.velocity(u - e * w)) / (2 * e)
    assert np.allclose(trees.jacobian(u) @ w, change, atol=1e-7)
    with pytest.raises(TypeError, match="is no state"):
        trees.velocity(0.5 * u)


@pytest.mark.parametrize(
    ("scheme", "sign", "power"),
    [(fl.Euler(), 1, 1), (fl.ImplicitEuler(), -1, 1), (fl.MinimizingMovement(), -1, 1)],
    ids=repr,
)
def test_first_order_schemes_follow_the_energy_with_a_gradient_penalty(
    scheme, sign, power
):
    m = modified_equation(scheme, WELL)
    x, y = m.model.symbols
    f = (x**2 - 1) ** 2 / 4 + (y - x**2) ** 2 / 2
    theory = f + sign * m.h / 4 * (f.diff(x) ** 2 + f.diff(y) ** 2)
    assert sympy.expand(m.energy - theory) == 0
    assert sympy.expand(m.field[0] + m.energy.diff(x)) == 0
    assert m.leading == power


@pytest.mark.parametrize("terms", [1, 2, 3, 4])
def test_gradient_descent_against_its_modified_equations(terms):
    assert order_of(fl.Euler(), terms, FINE) == pytest.approx(terms, abs=0.15)


@pytest.mark.parametrize(
    ("scheme", "terms", "order"),
    [
        (fl.ImplicitEuler(), 2, 2),
        (fl.ImplicitEuler(), 3, 3),
        (fl.Heun(), 2, 2),
        (fl.Heun(), 3, 3),
        (fl.TRBDF2(), 3, 3),
        (fl.AverageVectorField(), 2, 2),
        (fl.AverageVectorField(), 3, 4),
        (fl.Gonzalez(), 3, 4),
        (fl.ItohAbe(), 2, 2),
        (fl.ItohAbe(), 3, 3),
        (fs.Extragradient(), 3, 3),
    ],
    ids=repr,
)
def test_schemes_against_their_modified_equations(scheme, terms, order):
    sizes = COARSE if order == 4 else FINE
    assert order_of(scheme, terms, sizes) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", ["bdf2", "bdf", "optimistic", "momentum"])
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_the_modified_flow_satisfies_the_recursion_of_several_steps(name, terms):
    method = {
        "bdf2": fl.BDF2(),
        "bdf": fl.BDF(2),
        "optimistic": fs.Optimistic(),
        "momentum": Momentum(0.3),
    }[name]
    equation, v = modified_equation(method, WELL, terms), SPACE.flow(WELL).velocity
    defects = []
    sizes = (1 / 80, 1 / 160, 1 / 320, 1 / 640)
    for h in sizes:
        flow = equation.flow(h)
        x = fl.solve(
            flow, START, (0, 3 * h), fl.DOP853(), dt=h / 2, save_at=np.arange(4) * h
        ).u
        if name.startswith("bdf"):
            r = x[2] - 4 / 3 * x[1] + x[0] / 3 - 2 / 3 * h * v(0, x[2])
        elif name == "optimistic":
            r = x[2] - x[1] - h * (2 * v(0, x[1]) - v(0, x[0]))
        else:
            r = x[2] - x[1] - h * v(0, x[1]) - 0.3 * (x[1] - x[0])
        defects.append(np.abs(r).max())
    expected = terms + 1 + (name.startswith("bdf") and terms == 1)
    assert observed(sizes, defects) == pytest.approx(expected, abs=0.25)


PARTS = {
    "smooth": fl.Potential("x**4/4 + (y - x)**2"),
    "prox": fl.Potential("x**2/2 + y**4/4"),
}


class TwoEnergies(fl.Flow):
    """The parts as flows of vectors; both are smooth."""

    space = SPACE

    def parts(self):
        return {name: SPACE.flow(energy) for name, energy in PARTS.items()}

    def velocity(self, t, u):
        return sum(part.velocity(t, u) for part in self.parts().values())


@pytest.mark.parametrize(
    "scheme",
    [
        fl.ForwardBackward(),
        fl.DouglasRachford(),
        fl.Splitting("prox smooth", inner=fl.Euler()),
    ],
    ids=repr,
)
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_schemes_of_two_parts_against_their_modified_equations(scheme, terms):
    equation, errors = modified_equation(scheme, PARTS, terms), []
    for h in FINE:
        end = fl.solve(TwoEnergies(), START, (0, 1), scheme, dt=h).u[-1]
        exact = fl.solve(equation.flow(h), START, (0, 1), fl.DOP853(), dt=0.05).u[-1]
        errors.append(np.abs(end - exact).max())
    assert observed(FINE, errors) == pytest.approx(terms, abs=0.2)


@pytest.mark.parametrize(
    ("scheme", "terms", "order"),
    [
        (fl.StepDoubling(fl.Euler()), 1, 1),
        (fl.StepDoubling(fl.Euler()), 2, 2),
        (fl.StepDoubling(fl.ImplicitEuler(), extrapolate=True), 2, 2),
        (fl.StepDoubling(fl.ImplicitEuler(), extrapolate=True), 3, 3),
    ],
    ids=repr,
)
def test_step_doubling_against_its_modified_equation(scheme, terms, order):
    assert order_of(scheme, terms, FINE) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_backward_differentiation_adds_a_derivative_of_the_solution(k):
    """h v(u) = sum_{j <= k} backward differences/j: v + h^k/(k+1) u^(k+1)."""
    b = modified_equation(fl.BDF(k), WELL, k + 1).coefficients
    for tree, value in b.items():
        if 1 < size(tree) <= k:
            assert value == 0
        # In u^(k+1) a tree has the number of its monotone labelings, n!/(gamma sigma).
        if size(tree) == k + 1:
            weight = sympy.Rational(sympy.factorial(k + 1), gamma(tree)) / (k + 1)
            assert abs(value - weight) < 1e-10


def gamma(tree):
    """Density: the product of the sizes of all subtrees."""
    return size(tree) * int(np.prod([gamma(branch) for branch in tree[1]]))


def test_the_exact_flow_is_its_own_modified_equation():
    m = modified_equation(fl.Exact(), WELL, 4)
    assert m.leading is None
    assert sympy.expand(m.field - modified_equation(fl.Euler(), WELL, 1).field) == (
        sympy.zeros(2, 1)
    )


def test_problems_that_are_games_have_modified_equations():
    p = fl.problems.bilinear_game(1.3)
    v = modified_equation(fl.Euler(), p).flow(0.2).velocity(0.0, START)
    x, y = START
    expected = [-1.3 * y + 0.1 * 1.69 * x, 1.3 * x + 0.1 * 1.69 * y]
    assert np.allclose(v, expected, atol=1e-14)


def test_heavy_ball_steps_follow_the_energy_of_the_formula():
    b = sympy.Rational(3, 5)
    m = modified_equation(Momentum(0.6), fl.Potential("x**4/4 + x*y"))
    x, y = m.model.symbols
    f = x**4 / 4 + x * y
    slope = f.diff(x) ** 2 + f.diff(y) ** 2
    theory = f / (1 - b) + m.h * (1 + b) / (4 * (1 - b) ** 3) * slope
    assert sympy.expand(m.energy - theory) == 0


def test_iterates_of_momentum_follow_the_recursion_and_the_quadratic():
    flow = SPACE.flow(fl.quadratic(1.0))
    x = Momentum(0.25).iterates(flow, np.ones(1), 0.1, 60)
    A = modified_quadratic(Momentum(0.25), fl.quadratic(1.0), 0.1)
    assert np.log(x[59] / x[60])[0] / 0.1 == pytest.approx(2 * A(fl.Dirac(1.0)))
    same = Momentum(0.25).iterates(flow, x[1], 0.1, 3, before=x[0])
    assert np.array_equal(same[3], x[4])
    with pytest.raises(ValueError, match="must be in"):
        Momentum(1.0)
    with pytest.raises(TypeError, match="must be an array"):
        Momentum(0.5).iterates(flow, [1.0], 0.1, 1)


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_a_callable_energy_has_the_same_field(terms):
    pytest.importorskip("torch")
    u = np.array([[0.3, 1.2], [1.0, -0.4]])
    typed = modified_equation(fl.Euler(), WELL, terms).flow(0.1)
    given = modified_equation(fl.Euler(), fl.Potential(torch_well), terms)
    assert np.abs(given.flow(0.1).velocity(0, u) - typed.velocity(0, u)).max() < 1e-13
    assert np.abs(given.flow(0.1).velocity(0, u[0]) - typed.velocity(0, u[0])).max() < (
        1e-13
    )
    assert given.energy is None
    assert "v minus the gradient" in str(given)
    assert given.latex().startswith("\\dot u = v")
    with pytest.raises(TypeError, match="no formula"):
        given.field  # noqa: B018


def test_games_are_driven_out_and_alternation_keeps_its_invariant():
    x, y = sympy.symbols("x y", real=True)
    m = modified_equation(fl.Euler(), PLAYERS, 2)
    assert list(m.field) == [m.h * x / 2 - y, m.h * y / 2 + x]
    assert "v - 1/2 h v'v" in str(m)
    field = modified_equation(fl.Euler(), ("-y", "x"), 2).field
    assert list(field) == list(m.field)
    alternating = fl.Splitting("a b", inner=fl.Euler())
    m = modified_equation(alternating, PLAYERS, 5)
    invariant = x**2 + y**2 - m.h * x * y
    slope = invariant.diff(x) * m.field[0] + invariant.diff(y) * m.field[1]
    assert sympy.Poly(sympy.expand(slope), m.h).monoms()[-1][0] >= 5
    assert "v_b' v_a" in str(m)
    # Iterates of a game with curvature against the modified flow.
    L = fl.Potential("x*y + x**3/3 + x*y**2/4")
    game = fl.learning.game({"a": L, "b": -L}, {"a": [0], "b": [1]})
    m = modified_equation(alternating, game, 3)
    errors = []
    for h in FINE:
        end = fl.solve(game, START, (0, 1), alternating, dt=h).u[-1]
        exact = fl.solve(m.flow(h), START, (0, 1), fl.DOP853(), dt=0.05).u[-1]
        errors.append(np.abs(end - exact).max())
    assert observed(FINE, errors) == pytest.approx(3, abs=0.15)


def test_critic_steps_run_the_clock_of_one_player_faster():
    scheme = fl.Splitting("a b", inner=fl.Euler(), repeat={"b": 5})
    m = modified_equation(scheme, PLAYERS, 1)
    x, y = m.model.symbols
    assert list(m.field) == [-y, 5 * x]


def test_energies_exist_exactly_where_the_field_is_a_gradient():
    # Beyond the first term gradient descent follows no gradient flow in the plane.
    assert modified_equation(fl.Euler(), WELL, 3).energy is None
    assert not modified_equation(fl.Euler(), WELL, 3).flow(0.1).is_gradient
    quadratic = fl.quadratic([[2.0, 0.5], [0.5, 1.0]])
    m = modified_equation(fl.Euler(), quadratic, 4)
    x, y = m.model.symbols
    assert sympy.expand(m.field[0] + m.energy.diff(x)) == 0
    assert sympy.expand(m.field[1] + m.energy.diff(y)) == 0
    line = modified_equation(fl.Euler(), fl.Potential("x**4/4"), 3)
    (x,) = line.model.symbols
    assert sympy.expand(line.field[0] + line.energy.diff(x)) == 0
    for model in (WELL, quadratic):
        flow = modified_equation(fl.Euler(), model, 2).flow(0.1)
        assert fl.check_gradient(flow, START).slope == pytest.approx(2, abs=0.1)
        w, e = np.array([0.3, -0.8]), 1e-6
        change = (flow.velocity(0, START + e * w) - flow.velocity(0, START - e * w)) / (
            2 * e
        )
        assert np.allclose(flow.jacobian(0, START) @ w, change, atol=1e-8)


def test_parameters_scales_and_dimensions_enter():
    energy = 2.0 * fl.Potential("lam*x**4/4", parameters={"lam": 3.0})
    (x,) = modified_equation(fl.Euler(), energy, 1).model.symbols
    assert modified_equation(fl.Euler(), energy, 1).field[0] == -6 * x**3
    radial = modified_equation(fl.Euler(), fl.Potential("r**2/2"), 2, dimension=3)
    h = radial.h
    expected = [-(1 + h / 2) * s for s in radial.model.symbols]
    assert [
        sympy.expand(a - b) for a, b in zip(radial.field, expected, strict=True)
    ] == [
        0,
        0,
        0,
    ]
    problem = fl.problems.double_well()
    assert modified_equation(fl.Euler(), problem).energy.has(h)


def test_modified_flows_pickle_and_check_the_state():
    for terms in (2, 3):
        flow = modified_equation(fl.Euler(), WELL, terms).flow(0.1)
        again = pickle.loads(pickle.dumps(flow))
        assert np.array_equal(again.velocity(0, START), flow.velocity(0, START))
        with pytest.raises(ValueError, match="2 component"):
            flow.velocity(0.0, np.ones(3))
    many = np.stack([START, -START])
    assert flow.norm(many).shape == flow.inner(many, many, many).shape == (2,)


def test_text_and_latex_say_what_is_integrated():
    m = modified_equation(fl.Euler(), fl.Potential("x**2/2"))
    assert str(m).splitlines() == [
        "Euler() with the step h follows, up to O(h^2),",
        "    du/dt = v - 1/2 h v'v",
        "    dx/dt = -h*x/2 - x",
        "the gradient flow of",
        "    h*x**2/4 + x**2/2",
    ]
    assert (
        m.latex() == r"\dot u = -\nabla\left(\frac{h x^{2}}{4} + \frac{x^{2}}{2}\right)"
    )
    assert m._repr_latex_().startswith("$")
    assert repr(m) == "ModifiedEquation(Euler(), order=2)"
    three = modified_equation(fl.Euler(), WELL, 3)
    assert "h^2 (1/12 v''(v, v) + 1/3 v'v'v)" in str(three)
    assert "no gradient flow" in str(three)
    assert r"\begin{aligned}" in three.latex()
    assert "0.0404401" in str(modified_equation(fl.TRBDF2(), WELL, 3))
    assert modified_equation(fl.RK4(), WELL, 4).leading is None
    assert modified_equation(fl.ItohAbe(), WELL, 2).leading == 1


@pytest.mark.parametrize(
    "scheme",
    [
        fl.Euler(),
        fl.Heun(),
        fl.RK4(),
        fl.DOP853(),
        fl.ImplicitEuler(),
        fl.MinimizingMovement(),
        fl.TRBDF2(),
        fl.SDIRK3(),
        fl.Gonzalez(),
        fl.AverageVectorField(),
        fl.Radau(),
        fl.Rosenbrock(),
        fl.Exponential(),
        fl.StepDoubling(fl.RK4()),
    ],
    ids=repr,
)
def test_the_flow_of_the_modified_quadratic_passes_through_all_iterates(scheme):
    energy = fl.quadratic([[2.0, 0.7], [0.7, 1.0]], b=[0.3, -0.2])
    modified = SPACE.flow(modified_quadratic(scheme, energy, 0.2))
    path = fl.solve(SPACE.flow(energy), START, (0, 2), scheme, dt=0.2).u
    for k, u in enumerate(path):
        assert np.abs(modified.exact(0.0, START, 0.2 * k) - u).max() < 1e-14


def test_modified_quadratics_with_a_kernel_drift_at_the_same_speed():
    energy = fl.quadratic([1.0, 0.0], b=[0.5, 2.0])
    modified = SPACE.flow(modified_quadratic(fl.Euler(), energy, 0.25))
    end = fl.solve(SPACE.flow(energy), START, (0, 1), fl.Euler(), dt=0.25).u[-1]
    assert np.abs(modified.exact(0.0, START, 1.0) - end).max() < 1e-14
    problem = fl.problems.quadratic([2.0, 1.0], START)
    H = modified_quadratic(fl.Euler(), problem, 0.1).terms[0].hessian_at(START, 0.0)
    assert np.allclose(np.diag(H), -np.log1p([-0.2, -0.1]) / 0.1, rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (
            lambda: modified_quadratic(fl.Euler(), fl.quadratic([1.0, 6.0]), 0.2),
            ValueError,
            "factor -0.2 at the eigenvalue 6",
        ),
        (
            lambda: modified_quadratic(Momentum(0.5), fl.quadratic(1.0), 0.2),
            ValueError,
            "Take a smaller h",
        ),
        (
            lambda: modified_quadratic(fl.ItohAbe(), fl.quadratic(1.0), 0.2),
            TypeError,
            "multiplies the modes of a matrix",
        ),
        (
            lambda: modified_quadratic(fl.Euler(), WELL, 0.2),
            TypeError,
            "must be quadratic",
        ),
        (
            lambda: modified_quadratic(fl.Euler(), fl.quadratic(1.0), 0.0),
            ValueError,
            "must be positive",
        ),
        (
            lambda: modified_equation(fl.Euler(), WELL, 0),
            ValueError,
            "positive integer",
        ),
        (lambda: modified_equation(fl.Euler(), WELL, 9), ValueError, "at most 8"),
        (lambda: modified_equation("Euler", WELL), TypeError, "must be a scheme"),
        (lambda: modified_equation(fl.Euler(), "x**2"), TypeError, "is made for"),
        (
            lambda: modified_equation(fl.EulerMaruyama(), WELL),
            TypeError,
            "no series of trees",
        ),
        (
            lambda: modified_equation(fl.Splitting("ab", inner=fl.Euler()), WELL),
            TypeError,
            "needs a flow with parts",
        ),
        (
            lambda: modified_equation(fl.Euler(), fl.Potential("abs(x)")),
            TypeError,
            "kinks",
        ),
        (
            lambda: modified_equation(fl.Euler(), fl.Potential("t*x**2")),
            TypeError,
            "depends on time",
        ),
        (
            lambda: modified_equation(fl.Euler(), fl.kl("x**2")),
            TypeError,
            "needs potentials",
        ),
        (
            lambda: modified_equation(fl.ForwardBackward(), WELL),
            TypeError,
            'give a mapping {"smooth"',
        ),
        (
            lambda: modified_equation(fl.DouglasRachford(), {"a": WELL, "b": WELL}),
            TypeError,
            'give a mapping {"smooth"',
        ),
        (
            lambda: modified_equation(
                fl.Euler(), {"a": fl.Potential("x*y"), "b": fl.Potential("x**2")}
            ),
            ValueError,
            r"add `\+ 0\*y`",
        ),
        (
            lambda: modified_equation(fl.Euler(), {"a": "x**2"}),
            TypeError,
            "part 'a' must be an energy",
        ),
        (
            lambda: modified_equation(fl.Euler(), {"a": fl.Potential(torch_well)}),
            TypeError,
            "part 'a' must be a formula",
        ),
        (
            lambda: modified_equation(fl.PolyakMomentum(), WELL),
            TypeError,
            r"momentum, base; for momentum take Momentum\(beta\)",
        ),
        (lambda: modified_equation(fl.Euler(), WELL).flow(0.0), ValueError, "`h` must"),
        (lambda: modified_equation(fl.Euler(), WELL).flow("1"), ValueError, "`h` must"),
        (lambda: Momentum(1.0), ValueError, "`beta` must be in"),
        (lambda: Momentum("much"), ValueError, "`beta` must be in"),
        (
            lambda: modified_equation(fl.ItohAbe(), PLAYERS),
            TypeError,
            "needs an energy that is a formula",
        ),
        (
            lambda: modified_equation(fl.Euler(), ("-z", "x")),
            ValueError,
            "2 coordinate",
        ),
        (
            lambda: modified_equation(
                fl.Euler(),
                fl.learning.game(
                    {"a": fl.Potential(torch_well), "b": WELL}, {"a": [0], "b": [1]}
                ),
            ),
            TypeError,
            "must be a formula",
        ),
    ],
)
def test_what_has_no_modified_equation_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_callable_in_numpy_is_told_that_torch_differentiates_it():
    pytest.importorskip("torch")
    energy = fl.Potential(lambda x: np.sum(x**4, axis=-1) / 4, gradient=lambda x: x**3)
    flow = modified_equation(fl.Euler(), energy).flow(0.1)
    with pytest.raises(TypeError, match="differentiates it by torch"):
        flow.velocity(0.0, START)


def test_networks_have_the_gradients_that_differences_show():
    from flows.theory.networks import Network, bound_ratio

    rng = np.random.default_rng(5)
    net, x = Network.random((3, 5, 4, 2), "tanh", rng), rng.normal(size=3)

    def value(weights, at):
        other = Network(weights, net.biases, net.readout, net.activation)
        return other.readout @ other.layers(at)[0][-1]

    by_input, by_weight, _ = net.gradients(x)
    e = 1e-6
    for i in range(3):
        d = e * np.eye(3)[i]
        slope = (value(net.weights, x + d) - value(net.weights, x - d)) / (2 * e)
        assert slope == pytest.approx(by_input[i], abs=1e-8)
    for t, W in enumerate(net.weights):
        D = rng.normal(size=W.shape)
        ends = [
            value((*net.weights[:t], W + s * e * D, *net.weights[t + 1 :]), x)
            for s in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * e)
        assert slope == pytest.approx(np.sum(by_weight[t] * D), abs=1e-8)
    assert 0 < bound_ratio(net, x) < 1
    with pytest.raises(ValueError, match="tanh, relu or linear"):
        Network.random((1, 1), "sine", rng).layers(np.ones(1))


@pytest.mark.parametrize(
    "formula", ["x**2/2 + cos(y)", "x**4/4 + y**2", "exp(x) + y**4", "x**3*y/3 + y**2"]
)
@pytest.mark.parametrize("scheme", [fl.Euler(), fl.ImplicitEuler(), fl.Heun()])
def test_a_modified_field_is_called_a_gradient_exactly_when_it_is_one(scheme, formula):
    """Every field of a sum over coordinates is one, whatever its series."""
    found = modified_equation(scheme, fl.Potential(formula), 3)
    x, y = found.model.symbols
    curl = sympy.simplify(sympy.diff(found.field[0], y) - sympy.diff(found.field[1], x))
    assert found.is_gradient == (curl == 0)
    assert found.is_gradient == (formula != "x**3*y/3 + y**2")
    if found.is_gradient:
        for symbol, component in zip((x, y), found.field, strict=True):
            assert sympy.simplify(sympy.diff(found.energy, symbol) + component) == 0
        assert "the gradient flow of" in str(found)
    else:
        assert found.energy is None
        assert "no gradient flow" in str(found)


def test_a_flow_in_place_of_its_energy_is_told_the_energy():
    flow = fl.Euclidean().flow(fl.Potential("x**4/4"))
    with pytest.raises(TypeError, match=r"got a flow: give Potential\(\"x\*\*4/4\"\)"):
        modified_equation(fl.Euler(), flow)


def test_a_long_formula_comes_back_and_follows_the_steps():
    energy = fl.Potential("x**4/4 + y**2*x/3 + cos(y) + (x - y)**2")
    found = modified_equation(fl.Gonzalez(), energy, 3)
    flow, start = fl.Euclidean().flow(energy), np.array([0.6, 0.9])
    errors = []
    for h in (0.1, 0.05, 0.025):
        step = fl.Gonzalez().step(flow, 0.0, start, h, None, ()).u
        control = fl.Adaptive(rtol=1e-13, atol=1e-14)
        way = fl.solve(found.flow(h), start, (0, h), fl.DOP853(), dt=control)
        errors.append(np.abs(way.u[-1] - step).max())
    assert min(np.log2(np.divide(errors[:-1], errors[1:]))) > 3.7
