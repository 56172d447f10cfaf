"""Verification: tables of orders, checks that can fail, and the report of theory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import flows as fl
from flows.__main__ import main
from flows.theory import (
    Convergence,
    Finding,
    check_dissipation,
    check_mass,
    check_positive,
    verify,
)
from flows.theory.checks import integrate
from flows.theory.verify import Statement, examine, statement, statements

SIZES = [0.4, 0.2, 0.1, 0.05]


def power_law(h):
    return 3 * h**2


def test_orders_and_slope_of_a_power_law():
    study = fl.convergence(power_law, SIZES)
    assert study.order == pytest.approx([2.0, 2.0, 2.0])
    assert study.slope == pytest.approx(2.0)
    mixed = fl.convergence(lambda h: h + h**3, SIZES)
    assert np.all(np.diff(mixed.order) < 0)
    assert mixed.order[-1] == pytest.approx(1.0, abs=0.03)


def test_sizes_are_sorted_from_large_to_small():
    study = fl.convergence(power_law, [0.1, 0.4, 0.2])
    assert study.sizes.tolist() == [0.4, 0.2, 0.1]
    assert study.errors == pytest.approx([0.48, 0.12, 0.03])


def test_zero_errors_have_no_order_and_are_left_out_of_the_slope():
    study = Convergence(np.array(SIZES), np.array([0.16, 0.04, 0.01, 0.0]))
    assert study.slope == pytest.approx(2.0)
    assert math.isinf(study.order[-1])
    exact = Convergence(np.array(SIZES), np.zeros(4))
    assert math.isnan(exact.slope)
    assert "nan" in str(exact)


def test_the_table_shows_sizes_errors_and_orders():
    lines = str(fl.convergence(power_law, SIZES, "tau")).splitlines()
    assert lines[0].split() == ["tau", "error", "order"]
    assert lines[1].split() == ["0.4", "4.800e-01"]
    assert lines[2].split() == ["0.2", "1.200e-01", "2.00"]
    assert lines[-1].split() == ["fitted", "2.00"]
    assert len(lines) == 6


def test_the_latex_table_is_booktabs():
    text = fl.convergence(power_law, SIZES, "h").to_latex()
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lll}"
    assert lines[2] == r"$h$ & error & order \\"
    assert lines[4] == r"0.4 & $4.800 \times 10^{-1}$ & -- \\"
    assert lines[5] == r"0.2 & $1.200 \times 10^{-1}$ & 2.00 \\"
    assert text.count("rule") == 3
    assert lines[-1] == r"\end{tabular}"


def test_the_csv_table_has_all_digits(tmp_path):
    study = fl.convergence(lambda h: h / 3, SIZES, "1/n")
    text = study.to_csv(tmp_path / "orders.csv")
    assert (tmp_path / "orders.csv").read_text() == text
    header, *rows = text.splitlines()
    assert header == "1/n,error,order"
    numbers = [row.split(",") for row in rows]
    assert [float(row[0]) for row in numbers] == study.sizes.tolist()
    assert [float(row[1]) for row in numbers] == study.errors.tolist()
    assert numbers[0][2] == ""
    assert [float(row[2]) for row in numbers[1:]] == study.order.tolist()


def test_the_plot_has_labels_and_a_line_of_the_slope():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    study = fl.convergence(power_law, SIZES)
    ax = study.plot()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "$h$"
    assert ax.get_ylabel() == "error"
    assert ax.lines[0].get_xydata()[:, 1] == pytest.approx(study.errors)
    assert [text.get_text() for text in ax.texts] == ["slope 2"]
    own = Figure().add_subplot()
    assert study.plot(own, label="Euler") is own
    assert own.lines[0].get_label() == "Euler"
    flat = Convergence(np.array(SIZES), np.ones(4), "tau")
    assert flat.plot().get_xlabel() == "tau"
    assert len(flat.plot().lines) == 1


@pytest.mark.parametrize(
    "sizes", [[0.1], [0.1, 0.1], [0.1, 0.0], [0.1, -1], [1, np.inf]]
)
def test_two_different_positive_sizes_are_needed(sizes):
    with pytest.raises(ValueError, match="at least two different positive numbers"):
        fl.convergence(power_law, sizes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_an_error_must_be_a_number(value):
    with pytest.raises(ValueError, match=r"The error at size 0.4 is .*must be finite"):
        fl.convergence(lambda h: value, SIZES)


WELL = "(x**2 - 1)**2/4"
GRADIENTS = [
    ("Euclidean", fl.Euclidean(), fl.Potential(WELL + " + x*y/3 + y**4"), [0.3, 1.2]),
    ("quadratic", fl.Euclidean(), fl.quadratic([[2.0, 0.5], [0.5, 1.0]]), [0.3, 1.2]),
    ("quantiles", fl.Quantiles(20), fl.kl(WELL), fl.Gaussian(0.5, 0.7)),
    ("fine quantiles", fl.Quantiles(1000), fl.kl(WELL), fl.Gaussian(0.5, 0.7)),
    (
        "nonlinear quantiles",
        fl.Quantiles(20),
        fl.porous_medium(2.0, "x**4") + fl.Interaction("x**4"),
        fl.Gaussian(0.5, 0.7),
    ),
    ("grid", fl.Grid((-4, 4, 50)), fl.kl(WELL), fl.Gaussian(0.5, 0.7)),
    (
        "nonlinear grid",
        fl.Grid((-3, 3, 20), (-3, 3, 20)),
        fl.porous_medium(3.0, "x**4 + y**2"),
        fl.Gaussian([0.5, 0.0], 0.7),
    ),
    (
        "particles",
        fl.Particles(6),
        fl.Potential("r**4") + fl.Interaction("exp(-r**2)"),
        np.random.default_rng(0).normal(size=(6, 2)),
    ),
]


@pytest.mark.parametrize(
    ("space", "energy", "start"),
    [g[1:] for g in GRADIENTS],
    ids=[g[0] for g in GRADIENTS],
)
def test_right_gradients_have_slope_two(space, energy, start):
    u = space.admit(start)
    assert fl.check_gradient(space.flow(energy), u).slope == pytest.approx(2.0, abs=0.1)


def value(x):
    return 0.25 * (x**4).sum(-1)


def wrong(x):
    return 1.1 * x**3


@pytest.mark.parametrize(
    ("space", "start"),
    [
        (fl.Euclidean(), np.array([0.3, 1.2])),
        (fl.Quantiles(20), fl.Gaussian(0.5, 0.7)),
        (fl.Particles(4), np.array([[0.3], [1.2], [0.5], [-1.0]])),
    ],
    ids=repr,
)
def test_wrong_gradients_have_slope_one(space, start):
    flow = space.flow(fl.Potential(value, gradient=wrong))
    study = fl.check_gradient(flow, space.admit(start))
    assert study.slope == pytest.approx(1.0, abs=0.1)
    right = space.flow(fl.Potential(value, gradient=lambda x: x**3))
    assert fl.check_gradient(right, space.admit(start)).slope > 1.9


def test_a_wrong_variation_on_the_grid_has_slope_one():
    grid = fl.Grid((-4, 4, 50))
    flow = grid.flow(fl.kl(WELL))
    false = SimpleNamespace(
        space=grid,
        is_gradient=True,
        energy=flow.energy,
        variation=lambda t, u: 1.1 * flow.variation(t, u),
    )
    u = grid.project(fl.Gaussian(0.5, 0.7))
    assert fl.check_gradient(false, u).slope == pytest.approx(1.0, abs=0.1)


def test_float32_gradients_are_told_apart_too():
    line, u = fl.Euclidean(), np.array([0.3, 1.2], dtype=np.float32)
    right = fl.check_gradient(line.flow(fl.separable("x**4/4")), u)
    false = fl.check_gradient(line.flow(fl.Potential(value, gradient=wrong)), u)
    assert right.slope > 1.8
    assert false.slope < 1.6


def test_a_gradient_can_be_checked_in_a_direction_of_choice():
    flow = fl.Euclidean().flow(fl.Potential("x**2 + y**4"))
    u = np.array([1.0, 1.0])
    # Along x the energy is quadratic: the error is e^2 exactly.
    study = fl.check_gradient(flow, u, direction=np.array([1.0, 0.0]))
    assert study.errors == pytest.approx(study.sizes**2, rel=1e-9)
    assert study.name == "e"


def test_gradients_need_an_energy_and_one_state():
    with pytest.raises(TypeError, match="needs a gradient flow with an energy"):
        fl.check_gradient(fl.LangevinParticles(2).flow(fl.kl("x**2")), np.ones((2, 1)))
    line = fl.Euclidean()
    drifted = line.flow(fl.quadratic(), drift=lambda x: -x)
    with pytest.raises(TypeError, match="needs a gradient flow with an energy"):
        fl.check_gradient(drifted, np.ones(1))
    with pytest.raises(TypeError, match="Give one state, not a batch"):
        fl.check_gradient(line.flow(fl.quadratic()), np.ones((2, 1)))


def test_checks_name_what_they_were_given():
    for check in (
        fl.check_descent,
        fl.theory.check_dissipation,
        fl.theory.check_mass,
        fl.theory.check_positive,
    ):
        with pytest.raises(TypeError, match="`sol` must be a Solution, got 3"):
            check(3)
    with pytest.raises(TypeError, match=r"Euclidean\(\).flow\(V\), not Potential"):
        fl.check_gradient(fl.quadratic(1.0), np.ones(2))
    with pytest.raises(TypeError, match="`error` must be a function"):
        fl.convergence(1.0, [0.1, 0.2])
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    assert fl.check_gradient(flow, [1.0, 2.0]).slope == pytest.approx(2.0, abs=0.05)
    sol = fl.solve(flow, [1.0], (0, 1), fl.RK4(), dt=0.1)
    with pytest.raises(TypeError, match="`convexity` must be a number"):
        fl.theory.evi_gap(sol, [0.0], "much")


def test_descent_passes_and_fails():
    flow = fl.Euclidean().flow(fl.quadratic([1.0, 4.0]))
    good = fl.solve(flow, np.array([1.0, -1.0]), (0, 1), fl.RK4(), dt=0.1)
    found = fl.check_descent(good)
    assert found
    assert found.passed is True
    assert str(found).startswith("pass  largest rise of the energy: 0 ")
    # A swirl that the energy does not see.
    swirl = fl.Euclidean().flow(
        fl.quadratic([1.0, 4.0]), drift=lambda x: 5 * x[..., ::-1] * np.array([1.0, -1])
    )
    bad = fl.solve(swirl, np.array([1.0, 0.0]), (0, 1), fl.RK4(), dt=0.05)
    found = fl.check_descent(bad)
    assert not found
    assert found.value == pytest.approx(max(np.diff(bad.energy)))
    assert str(found).startswith("FAIL")
    assert fl.check_descent(bad, tol=1.1 * found.value)


def test_descent_needs_an_energy():
    noisy = fl.solve(
        fl.LangevinParticles(3).flow(fl.kl("x**2")),
        np.ones((3, 1)),
        (0, 0.1),
        fl.EulerMaruyama(),
        dt=0.1,
        rng=0,
    )
    with pytest.raises(TypeError, match="check_descent needs a flow with an energy"):
        fl.check_descent(noisy)
    with pytest.raises(TypeError, match="check_dissipation needs a gradient flow"):
        check_dissipation(noisy)
    flow = fl.Euclidean().flow(fl.quadratic())
    batch = fl.solve(flow, np.ones((3, 1)), (0, 1), fl.RK4(), dt=0.1)
    with pytest.raises(TypeError, match="no batch"):
        fl.check_descent(batch)
    with pytest.raises(TypeError, match="Give one state"):
        check_dissipation(batch)
    point = fl.solve(flow, np.ones(1), (0, 0), fl.RK4(), dt=0.1)
    with pytest.raises(ValueError, match="at least two saved states"):
        fl.check_descent(point)


@pytest.mark.parametrize(
    ("space", "scheme", "dt", "tol"),
    [
        (fl.Euclidean(), fl.RK4(), 0.02, 1e-6),
        (fl.Grid((-5, 5, 100)), fl.SDIRK3(), 0.005, 1e-3),
        (fl.Quantiles(20), fl.SDIRK3(), 0.005, 1e-3),
        (fl.Particles(1), fl.RK4(), 0.02, 1e-6),
    ],
    ids=repr,
)
def test_the_dissipation_balance_holds_for_gradient_flows(space, scheme, dt, tol):
    smooth = isinstance(space, (fl.Grid, fl.Quantiles))
    flow = space.flow(fl.kl(WELL) if smooth else fl.Potential(WELL))
    start = fl.Gaussian(0.5, 0.5) if smooth else fl.Dirac(0.3)
    sol = fl.solve(flow, start, (0, 1), scheme, dt=dt)
    assert check_dissipation(sol, tol)
    # A coarse first-order run dissipates another amount.
    coarse = fl.solve(flow, start, (0, 1), fl.ImplicitEuler(), dt=0.25)
    assert not check_dissipation(coarse, tol)


def test_the_dissipation_balance_refuses_drifts_and_moving_energies():
    line, u = fl.Euclidean(), np.ones(1)
    drifted = line.flow(fl.quadratic(), drift=lambda x: -x)
    with pytest.raises(TypeError, match="needs a gradient flow"):
        check_dissipation(fl.solve(drifted, u, (0, 1), fl.RK4(), dt=0.1))
    moving = line.flow(fl.Potential("(x - t)**2"))
    with pytest.raises(TypeError, match="does not depend on t"):
        check_dissipation(fl.solve(moving, u, (0, 1), fl.RK4(), dt=0.1))


def test_the_integral_of_a_cubic_is_exact():
    t = np.array([0.0, 0.3, 0.5, 1.0, 1.7])
    assert float(np.sum(integrate(t, t**3))) == pytest.approx(1.7**4 / 4)
    assert integrate(np.zeros(1), np.ones(1)) == 0.0


def test_mass_and_sign_pass_and_fail():
    grid = fl.Grid((-4, 4, 80))
    flow = grid.flow(fl.kl("x**2/2"))
    good = fl.solve(flow, fl.Gaussian(1.0, 0.5), (0, 1), fl.ImplicitEuler(), dt=0.1)
    assert check_mass(good)
    assert check_positive(good)

    def stats(**changes):
        return SimpleNamespace(stats={**good.stats, **changes}, space=grid)

    assert not check_mass(stats(mass_drift=1e-9))
    assert check_mass(stats(mass_drift=1e-9), tol=1e-8)
    assert not check_positive(stats(minimum=-1e-9))
    assert check_positive(stats(minimum=-1e-9), tol=1e-8)
    assert not check_mass(stats(mass_drift=math.nan))
    points = fl.solve(
        fl.Euclidean().flow(fl.quadratic()), np.ones(1), (0, 1), fl.RK4(), dt=0.1
    )
    for check in (check_mass, check_positive):
        with pytest.raises(TypeError, match=r"Euclidean\(\) has no densities"):
            check(points)


def test_a_finding_that_is_nan_fails():
    assert not Finding("x", math.nan, 1.0)
    assert Finding("x", 1.0, 1.0)
    assert Finding("x", np.float64(0.5), 1.0).passed is True


ALL = statements()


@pytest.mark.parametrize("item", ALL, ids=lambda s: s.name)
def test_every_statement_of_the_report_holds(item):
    result = examine(item)
    assert result.passed, str(result)
    json.dumps(result.to_dict(), allow_nan=False)


def test_every_scheme_has_a_line_that_says_what_it_integrates():
    said = {s.text.split()[0].partition("(")[0] for s in ALL if "follows" in s.name}
    said = {word.rstrip(":") for word in said}
    for name in fl.__all__:
        kind = getattr(fl, name)
        if isinstance(kind, type) and issubclass(kind, fl.Scheme):
            assert kind.__name__ in said or kind is fl.Scheme, name


def test_long_lists_are_counted_by_their_largest_difference():
    same = list(range(10))
    line = str(examine(Statement("mine", "all equal", lambda: (same, same, 1e-3))))
    assert line.split() == ["pass", "mine", "0.0e+00", "1.0e-03", "all", "equal"]
    other = [*same[:-1], 9.5]
    line = str(examine(Statement("mine", "all equal", lambda: (same, other, 1e-3))))
    assert "5.0e-01" in line
    assert "9.5)" in line


def test_statements_have_short_unique_names_and_one_line():
    assert len({s.name for s in ALL}) == len(ALL) >= 40
    for item in ALL:
        assert len(item.name) <= 24
        assert item.name == item.name.lower()
        assert "\n" not in item.text


@pytest.fixture
def register(monkeypatch):
    """A register of the statements that a test may add to."""
    monkeypatch.setattr("flows.theory.verify.REGISTER", dict(verify.REGISTER))
    return statement


def test_names_of_statements_are_taken_once(register):
    register("mine", "one")(lambda: (0, 0, 0))

    def other():
        return 0, 0, 0

    with pytest.raises(ValueError, match="The statement 'mine' exists already"):
        register("mine", "two")(other)
    register("other", "one")(other)
    register("other", "again")(other)


@pytest.mark.parametrize(
    ("compute", "passed", "text"),
    [
        (lambda: (1.0, 1.0 + 1e-9, 1e-8), True, "computed 1, theory 1"),
        (lambda: (1.0, 1.1, 1e-2), False, "theory 1.1"),
        (lambda: ([1.0, 2.0], [1.0, 2.1], 1e-2), False, r"computed \(1, 2\)"),
        (lambda: ([1.0, 2.0], 1.0, 10.0), False, "FAIL"),
        (lambda: (math.nan, 0.0, 1.0), False, "computed nan"),
        (lambda: 1 / 0, False, "ZeroDivisionError: division by zero"),
        (lambda: ("a", 0.0, 1.0), False, "ValueError: could not convert"),
        (lambda: (1.0, 2.0), False, "ValueError: not enough values"),
    ],
)
def test_statements_fail_when_the_sides_differ(compute, passed, text):
    import re

    result = examine(Statement("mine", "one side is the other", compute))
    assert result.passed is passed
    assert re.search(text, str(result))
    assert str(result).startswith("pass" if passed else "FAIL")
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_report_goes_on_after_a_failure(register):
    chosen = [
        Statement("bad", "", lambda: 1 / 0),
        Statement("good", "", lambda: (0.0, 0.0, 0.0)),
    ]
    assert [r.passed for r in verify.verify(chosen)] == [False, True]


def test_the_command_prints_one_line_for_each_statement(capsys):
    assert main(["verify", "--only", "Moreau"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["statement", "differ", "allowed", "text"]
    assert lines[2] == "Vectors"
    assert lines[3].startswith("pass  moreau")
    assert lines[-1] == "1 of 1 statements hold."


def test_the_command_fails_when_a_statement_fails(register, capsys):
    register("mine-false", "one is two")(lambda: (1.0, 2.0, 0.5))
    assert main(["verify", "--only", "mine-false"]) == 1
    out = capsys.readouterr().out
    assert "\nOthers\nFAIL  mine-false" in out
    assert "0 of 1 statements hold." in out
    assert main(["verify", "--only", "mine-false", "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["passed"] is False
    assert (entry["computed"], entry["theory"]) == (1.0, 2.0)


def test_the_command_without_a_match_lists_the_names(capsys):
    assert main(["verify", "--only", "no such words"]) == 2
    captured = capsys.readouterr()
    assert "No statement matches 'no such words'" in captured.err
    assert "moreau" in captured.err


def test_the_command_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "flows", "verify", "--only", "bures", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    (entry,) = json.loads(done.stdout)
    assert entry["name"] == "bures"
    assert entry["passed"] is True
    assert set(entry) >= {"name", "text", "computed", "theory", "tolerance", "passed"}


def test_the_command_refuses_unknown_words(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verify", "--fast"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


DEMO = """
def main(plot=False, out=None):
    (out / "curve.png").write_bytes(b"")
    return {{"error": {error}, "tolerance": 0.1, "what": "a curve"}}
"""


@pytest.mark.parametrize(("error", "code"), [(0.01, 0), (0.5, 1), ("float('nan')", 1)])
def test_figures_run_the_demos_and_compare_their_errors(tmp_path, capsys, error, code):
    demos, out = tmp_path / "demos", tmp_path / "out"
    demos.mkdir()
    (demos / "01_curve.py").write_text(DEMO.format(error=error))
    (demos / "helper.py").write_text("raise RuntimeError")
    options = ["figures", "--demos", str(demos), "--out", str(out)]
    assert main(options) == code
    captured = capsys.readouterr()
    assert "a curve" in captured.out
    assert "1 pictures" in captured.out
    assert ("Beyond their tolerance: 01_curve" in captured.err) == bool(code)
    results = json.loads((out / "results.json").read_text())
    assert set(results["01_curve"]) == {"error", "tolerance", "what", "seconds"}
    assert main([*options, "--only", "nothing"]) == 2
    assert "No demos in" in capsys.readouterr().err
