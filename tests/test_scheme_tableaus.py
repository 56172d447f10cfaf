"""Tableaus: order conditions, embedded methods, stability functions."""

import numpy as np
import pytest
from scheme_toys import (
    EXPLICIT,
    Linear,
    matrix_of,
    residual,
    run,
    trees_up_to,
)

import flows.schemes as fs
from flows.schemes import tableaus


def test_numbers_of_rooted_trees():
    assert [len(level) for level in trees_up_to(8)] == [1, 1, 2, 4, 9, 20, 48, 115]


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_order_conditions_of_all_rooted_trees(scheme):
    a, b = matrix_of(scheme.tableau)
    for order in range(1, scheme.order + 1):
        assert residual(order, a, b) < 1e-14
    assert residual(scheme.order + 1, a, b) > 1e-7


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_nodes_are_row_sums_and_end_exactly(scheme):
    a, _ = matrix_of(scheme.tableau)
    nodes = np.array([c for c, _ in scheme.tableau.stages])
    np.testing.assert_allclose(nodes, a[1:].sum(axis=1), atol=2e-14)
    assert not scheme.tableau.fsal or nodes[-1] == 1.0


@pytest.mark.parametrize(
    ("table", "row", "order"),
    [
        (tableaus.HEUN, tableaus.HEUN.error, 1),
        (tableaus.BOGACKI_SHAMPINE, tableaus.BOGACKI_SHAMPINE.error, 2),
        (tableaus.DORMAND_PRINCE, tableaus.DORMAND_PRINCE.error, 4),
        (tableaus.TSITOURAS, tableaus.TSITOURAS.error, 4),
        (tableaus.DOP853, tableaus.DOP853.error, 5),
        (tableaus.DOP853, tableaus.DOP853_THIRD, 3),
    ],
)
def test_embedded_methods_have_their_order(table, row, order):
    a, e = matrix_of(table, row)
    for p in range(1, order + 1):
        assert residual(p, a, e, right=0.0) < 1e-14
    assert residual(order + 1, a, e, right=0.0) > 1e-6


def test_dop853_has_the_coefficients_of_scipy():
    oracle = pytest.importorskip("scipy.integrate._ivp.dop853_coefficients")
    a, b = matrix_of(tableaus.DOP853)
    np.testing.assert_array_equal(a, oracle.A[:12, :12])
    np.testing.assert_array_equal(b, oracle.B)
    np.testing.assert_array_equal(
        [c for c, _ in tableaus.DOP853.stages], oracle.C[1:12]
    )
    np.testing.assert_array_equal(
        matrix_of(tableaus.DOP853, tableaus.DOP853.error)[1], oracle.E5[:12]
    )
    third = matrix_of(tableaus.DOP853, tableaus.DOP853_THIRD)[1]
    np.testing.assert_allclose(third, oracle.E3[:12], atol=1e-15)


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_real_stability_interval_is_where_the_polynomial_leaves_one(scheme):
    a, b = matrix_of(scheme.tableau)

    def gain(x):
        return abs(
            1.0 - x * (b @ np.linalg.solve(np.eye(len(b)) + x * a, np.ones(len(b))))
        )

    bound = scheme.stability
    assert all(gain(x) <= 1.0 + 1e-12 for x in np.linspace(0.0, bound, 400))
    assert gain(bound) == pytest.approx(1.0, abs=1e-11)
    assert gain(bound + 1e-6) > 1.0


WEIGHT, CORNER = np.sqrt(2.0) / 4.0, 1.0 - np.sqrt(2.0) / 2.0
TABLES = {
    "ImplicitEuler": ([[1.0]], [1.0]),
    "TRBDF2": (
        [[0.0, 0.0, 0.0], [CORNER, CORNER, 0.0], [WEIGHT, WEIGHT, CORNER]],
        [(1.0 - WEIGHT) / 3.0, (3.0 * WEIGHT + 1.0) / 3.0, CORNER / 3.0],
    ),
    "SDIRK3": (
        [
            [0.0, 0.0, 0.0, 0.0],
            [1767732205903 / 4055673282236, 1767732205903 / 4055673282236, 0.0, 0.0],
            [
                2746238789719 / 10658868560708,
                -640167445237 / 6845629431997,
                1767732205903 / 4055673282236,
                0.0,
            ],
            [
                1471266399579 / 7840856788654,
                -4482444167858 / 7529755066697,
                11266239266428 / 11593286722821,
                1767732205903 / 4055673282236,
            ],
        ],
        [
            2756255671327 / 12835298489170,
            -10771552573575 / 22201958757719,
            9247589265047 / 10645013368117,
            2193209047091 / 5459859503100,
        ],
    ),
}
"""A (its last row is b) and embedded weights, as in the papers."""


def stability(a, b, z):
    """R(z) = 1 + z b (I - z A)^-1 1."""
    ones = np.ones(len(b))
    return 1.0 + z * (b @ np.linalg.solve(np.eye(len(b)) - z * a, ones))


@pytest.mark.parametrize("name", TABLES)
def test_implicit_tables_have_their_order_and_are_l_stable(name):
    a, embedded = (np.array(x) for x in TABLES[name])
    scheme = fs.scheme_named(name)
    for order in range(1, scheme.order + 1):
        assert residual(order, a, a[-1]) < 1e-14
    assert residual(scheme.order + 1, a, a[-1]) > 1e-3
    line = 1j * np.logspace(-3, 4, 300)
    assert all(abs(stability(a, a[-1], z)) <= 1.0 + 1e-12 for z in line)
    assert abs(stability(a, a[-1], -1e9)) < 1e-7
    for order in range(1, scheme.error_order if name != "ImplicitEuler" else 1):
        assert residual(order, a, embedded) < 1e-14


@pytest.mark.parametrize("scheme", [*EXPLICIT, *map(fs.scheme_named, TABLES)], ids=repr)
def test_iterates_on_a_quadratic_are_powers_of_the_stability_function(scheme):
    name = type(scheme).__name__
    if name in TABLES:
        a = np.array(TABLES[name][0])
        b = a[-1]
    else:
        a, b = matrix_of(scheme.tableau)
    flow, u0, h = Linear(), np.array([1.0, -0.6]), 0.8
    gains = {rate: stability(a, b, h * rate) for rate in flow.rates}
    for k, step in enumerate(run(scheme, flow, u0, [h] * 12), 1):
        expected = flow.along(lambda rate, k=k: gains[rate] ** k, u0)
        np.testing.assert_allclose(step.u, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["TRBDF2", "SDIRK3"])
def test_implicit_error_estimate_is_the_difference_to_the_embedded_method(name):
    a, embedded = (np.array(x) for x in TABLES[name])
    flow, u0, h = Linear(), np.array([1.0, -0.6]), 0.8
    step = fs.scheme_named(name).step(flow, 0.0, u0, h, None, ())
    gap = {r: stability(a, a[-1] - embedded, h * r) - 1.0 for r in flow.rates}
    np.testing.assert_allclose(
        step.error, flow.along(lambda rate: gap[rate], u0), rtol=1e-12
    )


def test_bdf2_iterates_follow_its_recursion():
    """(3/2 - h l) u_k = 2 u_{k-1} - u_{k-2}/2 from one TR-BDF2 step."""
    flow, u0, h = Linear(), np.array([1.0, -0.6]), 0.8
    table = np.array(TABLES["TRBDF2"][0])
    gains = {}
    for rate in flow.rates:
        g = [1.0, stability(table, table[-1], h * rate)]
        for _ in range(11):
            g.append((2.0 * g[-1] - 0.5 * g[-2]) / (1.5 - h * rate))
        gains[rate] = g
    for k, step in enumerate(run(fs.BDF2(), flow, u0, [h] * 12), 1):
        expected = flow.along(lambda rate, k=k: gains[rate][k], u0)
        np.testing.assert_allclose(step.u, expected, rtol=1e-12, atol=1e-14)
