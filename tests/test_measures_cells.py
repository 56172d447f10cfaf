"""Cell masses of measures on the line and in the plane."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flows.measures import (
    Barenblatt,
    Density,
    Dirac,
    Empirical,
    Gaussian,
    Histogram,
    Mixture,
    Uniform,
    cell_masses,
)

CORRELATED = Gaussian([1.0, -0.5], [[2.0, 0.8], [0.8, 1.0]])
LINE = [
    Gaussian(1.5, 0.5),
    Mixture([Gaussian(-3.0, 0.2), Gaussian(2.0, 1.0)], [0.3, 0.7]),
    Uniform(-1.0, 3.0),
    Barenblatt(4.0, t=2.0, center=-1.0),
    Histogram([0.0, 1.0, 1.5, 4.0, 5.0], [1.0, 2.0, 0.0, 1.0]),
    Density("exp(-abs(x - 1))"),
]
PLANE = [
    CORRELATED,
    Gaussian([0.0, 1.0], [1.0, 2.0]),
    Mixture([CORRELATED, Uniform([0, 0], [1, 2])], [0.4, 0.6]),
    Uniform([0.0, -1.0], [1.0, 3.0]),
    Barenblatt(2.0, d=2, t=0.7, center=[1.0, 0.0]),
    Histogram(([0.0, 1.0, 2.0], [0.0, 2.0, 4.0]), [[1.0, 2.0], [3.0, 0.0]]),
    Density("exp(-x**2/2 - (y - 1)**2/8 - x*y/4)"),
    Empirical([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], [0.2, 0.3, 0.5]),
    Dirac([1.0, 2.0]),
]


@pytest.mark.parametrize("measure", LINE, ids=repr)
def test_cell_masses_on_the_line_are_cdf_differences(measure):
    edges = np.linspace(-4.0, 6.0, 57)
    masses = measure.cell_masses(edges)
    np.testing.assert_allclose(masses, np.diff(measure.cdf(edges)), atol=1e-15)
    np.testing.assert_array_equal(masses, cell_masses(measure, (edges,)))
    lost = measure.cdf(-4.0) + measure.survival(6.0)
    assert masses.sum() == pytest.approx(1.0 - lost, rel=1e-14)


def test_cell_masses_keep_their_digits_in_the_upper_tail():
    masses = Gaussian(0.0, 1.0).cell_masses(np.array([-13.0, -12.0, 0.0, 12.0, 13.0]))
    assert masses[0] > 0
    np.testing.assert_allclose(masses, masses[::-1], rtol=1e-13)


@pytest.mark.parametrize("measure", PLANE, ids=repr)
def test_cell_masses_in_the_plane_add_up_and_carry_the_mean(measure):
    edges = (np.linspace(-12, 12, 61), np.linspace(-17, 19, 73))
    masses = measure.cell_masses(edges)
    assert masses.shape == (60, 72)
    assert masses.sum() == pytest.approx(1.0, abs=1e-7)
    assert masses.min() >= 0
    centers = [0.5 * (e[1:] + e[:-1]) for e in edges]
    mean = [masses.sum(axis=1) @ centers[0], masses.sum(axis=0) @ centers[1]]
    assert (np.abs(mean - measure.mean) <= 0.2500001).all()


def test_cell_masses_in_the_plane_agree_with_conditional_integrals():
    edges = (np.linspace(-3, 4, 8), np.linspace(-2, 2, 5))
    masses = CORRELATED.cell_masses(edges)
    law = stats.multivariate_normal(CORRELATED.center, CORRELATED.covariance)
    corner = law.cdf([[edges[0][i], edges[1][j]] for i in (2, 3) for j in (1, 2)])
    box = corner[3] - corner[2] - corner[1] + corner[0]
    assert masses[2, 1] == pytest.approx(box, abs=2e-8)
    narrow = Gaussian([0.2, 0.1], [[1e-6, 5e-7], [5e-7, 1e-6]])
    assert narrow.cell_masses(edges)[3, 2] == pytest.approx(1.0, abs=1e-9)
    disc = Barenblatt(1.5, d=2, t=0.01, center=[0.4, 0.4])
    assert disc.cell_masses(edges).sum() == pytest.approx(1.0, abs=1e-8)


def test_atoms_on_an_edge_belong_to_the_right_cell():
    edges = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(
        Empirical([0.0, 1.0, 2.0, 3.0]).cell_masses(edges), [0.25, 0.5]
    )
    plane = Empirical([[0.5, 0.5], [1.0, 1.0], [5.0, 0.0]])
    np.testing.assert_allclose(
        plane.cell_masses((edges, edges)), np.array([[1, 0], [0, 1]]) / 3
    )


def test_a_histogram_is_carried_to_another_grid_exactly():
    own = Histogram(([0.0, 1.0, 3.0], [0.0, 2.0]), [[1.0], [1.0]])
    fine = own.cell_masses((np.array([0.0, 0.5, 2.0, 3.0]), np.array([0.0, 1.0, 4.0])))
    np.testing.assert_allclose(fine, [[0.125, 0.125], [0.25, 0.25], [0.125, 0.125]])
