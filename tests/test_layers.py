"""The layers of the house, read from every import, also those inside functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import flows

ROOT = Path(flows.__file__).parent

# A module may import from its own group and from lower levels.
LEVELS = {
    "arrays": 0,
    "random": 0,
    "_philox": 0,
    "linear": 0,
    "flow": 0,
    "symbolic": 1,
    "measures": 2,
    "transport": 2,
    "kernels": 2,
    "energies": 3,
    "nonsmooth": 3,
    "spaces": 4,
    "schemes": 4,
    "loop": 5,
    "storage": 5,
    "control": 5,
    "solution": 5,
    "solve": 5,
    "adjoint": 5,
    "checkpoint": 5,
    "hooks": 5,
    "dense": 5,
    "metrics": 5,
    "problems": 6,
    "theory": 6,
    "learning": 6,
    "plotting": 7,
    "__main__": 7,
    "__init__": 8,
}
# Schemes and spaces share a level and do not know each other; schemes see no energies.
FORBIDDEN = {
    "schemes": {"spaces", "energies", "measures", "transport", "symbolic"},
    "spaces": {"schemes"},
}
# Solution.plot and Solution.animate reach the plotting layer; a package's version is
# in its __init__.
EXCEPTIONS = {("solution", "plotting"), ("checkpoint", "__init__")}
# Loaded when first needed, never at import.
LAZY = {"torch", "numba", "sympy", "matplotlib", "triton"}


def group(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """Modules imported under ``tree`` and whether at module level, types left out."""
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if base == "flows":
                    found.extend((f"flows.{a.name}", top) for a in child.names)
                else:
                    found.append((base, top))
            inner = top and not isinstance(
                child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
            )
            visit(child, inner)

    visit(tree, True)
    return found


def violations(source: str, here: str, name: str) -> list[str]:
    """Sentences about imports of one module that go up, or that are not lazy."""
    wrong = []
    for module, top in imports(ast.parse(source)):
        parts = module.split(".")
        if parts[0] == "flows":
            there = parts[1] if len(parts) > 1 else "__init__"
            there = there if there in LEVELS else "__init__"
            allowed = LEVELS[there] <= LEVELS[here] or (here, there) in EXCEPTIONS
            if not allowed or there in FORBIDDEN.get(here, set()):
                wrong.append(f"{name}: {here} imports {there}")
        elif parts[0] in LAZY and top and name not in HEAVY:
            wrong.append(f"{name}: imports {parts[0]} at module level")
    return wrong


# These modules exist to hold code of a heavy library and are themselves loaded lazily;
# the import test below proves it.
HEAVY = {"_philox.py"} | {
    f"symbolic/{p.name}" for p in (ROOT / "symbolic").glob("*.py")
}


def test_every_import_goes_down_the_house():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        wrong += violations(path.read_text(), group(path), name)
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_level():
    assert {group(p) for p in ROOT.rglob("*.py")} <= set(LEVELS)


def test_a_broken_layer_is_noticed():
    up = "def f():\n    from flows.spaces import Grid\n"
    assert violations(up, "schemes", "schemes/x.py")
    assert violations("import flows.plotting", "energies", "energies.py")
    assert violations("import torch", "spaces", "spaces/x.py")
    assert not violations("def f():\n    import torch\n", "spaces", "spaces/x.py")


def run(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_flows_loads_nothing_heavy():
    heavy = ["torch", "sympy", "numba", "matplotlib.pyplot", "triton"]
    code = f"import sys, flows; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_flows_runs_without_torch_under_optimization_and_strict_warnings():
    code = """
import sys
sys.modules["torch"] = None
import flows as fl
flow = fl.Grid((-5, 5, 60)).flow(fl.kl("x**2/2"))
sol = fl.solve(flow, fl.Gaussian(1.0, 0.5), (0, 1), fl.TRBDF2(), dt=0.1)
try:
    fl.Particles(3, device="cpu")
except ImportError as error:
    print("torch" in str(error), sol.ok)
"""
    assert run(code, "-O", "-W", "error") == "True True"


def test_public_functions_leave_no_global_traces():
    code = """
import os, warnings, random
import numpy as np, torch, matplotlib
import sympy, scipy.special, scipy.stats, numba, matplotlib.figure
import flows as fl
def state():
    return (np.geterr(), torch.get_default_dtype(), torch.get_num_threads(),
            dict(matplotlib.rcParams), list(warnings.filters),
            np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(),
            random.getstate(), dict(os.environ))
before = state()
p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
for space, scheme in [(fl.Grid((-8, 8, 60)), fl.ImplicitEuler()),
                      (fl.Quantiles(30), fl.JKO()),
                      (fl.LangevinParticles(30000), fl.EulerMaruyama())]:
    sol = fl.solve(space.flow(p.energy), p.exact(0.0), (0, 0.1), scheme, dt=0.05, rng=0)
    sol.plot()
    str(sol)
fl.solve(fl.Euclidean().flow(fl.Potential(lambda x: (x**2).sum(-1))), [1.0], (0, 1))
print(state() == before)
"""
    assert run(code) == "True"
