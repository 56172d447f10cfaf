"""One table for all schemes: observed order on four kinds of vector flow."""

import itertools
from functools import lru_cache

import numpy as np
import pytest

import flows as fl
from flows.schemes import SCHEMES

# Schemes of other kinds of flow (noise, parts, second order), and the exact flow map;
# BDF ramps its order up and is measured by its tolerance.
OTHER = {"EulerMaruyama", "LeimkuhlerMatthews", "Exact", "Splitting", "BDF", "JKO"}
OTHER |= {"ForwardBackward", "DouglasRachford", "FISTA", "PolyakMomentum"}
TABLE = [kind() for name, kind in SCHEMES.items() if name not in OTHER]
TABLE += [fl.StepDoubling(fl.RK4())]

QUARTIC = fl.Potential("log(cosh(x)) + x*y/3 + cos(y)/2 + y**2")
METRIC = np.array([[2.0, 0.5], [0.5, 0.7]])
START = np.array([1.2, 0.5])
CASES = {
    "linear": fl.Euclidean().flow(fl.quadratic([[1.0, 0.4], [0.4, 2.0]], b=[0.3, 1])),
    "nonlinear": fl.Euclidean().flow(QUARTIC),
    "time-dependent": fl.Euclidean().flow(
        fl.Potential("sqrt(1 + (x - exp(t))**2) + y**2*exp(-t)/2")
    ),
    "matrix metric": fl.Euclidean(metric=METRIC).flow(QUARTIC),
    "Riemannian metric": fl.Euclidean(
        metric=lambda x: METRIC * (1 + (x**2).sum(-1))[..., None, None]
    ).flow(QUARTIC),
}
COUNTS = {1: (64, 90, 128, 180), 2: (32, 45, 64, 90), 3: (32, 45, 64, 90)}
COUNTS |= {4: (24, 34, 48, 68), 5: (20, 28, 40, 56), 8: (4, 5, 6, 7, 8)}


@lru_cache
def reference(case):
    """The state at t = 1, by the scheme of order 8 with 400 steps."""
    return end(fl.DOP853(), CASES[case], 400)


def end(scheme, flow, n):
    path = fl.steps(flow, START, scheme, dt=1.0 / n)
    *_, (t, u) = itertools.islice(path, n)
    assert t == pytest.approx(1.0)
    return u


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", TABLE, ids=repr)
def test_order(scheme, case):
    flow = CASES[case]
    if case == "Riemannian metric" and scheme.obstacle(flow):
        pytest.skip(scheme.obstacle(flow))
    counts = np.array(COUNTS[scheme.order])
    exact = reference(case)
    errors = [float(np.linalg.norm(end(scheme, flow, n) - exact)) for n in counts]
    if max(errors) < 1e-12:
        return
    # Schemes of high order may do better than they promise on a tame flow.
    slope = float(np.polyfit(np.log(1 / counts), np.log(errors), 1)[0])
    assert slope >= 0.97 * scheme.order - 0.05, (slope, errors)
