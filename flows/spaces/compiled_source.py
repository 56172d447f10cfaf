"""Sources of the compiled steps; see ``compiled_steps``.

The step of a scheme is written out for a formula, a dimension and a tableau, by
``compiled_stages``; the loops around it, with the controller of the loop, are the same
for all.
"""

from __future__ import annotations

from typing import Any

from flows.spaces.compiled_functions import function_stages
from flows.spaces.compiled_loops import LOOPS
from flows.spaces.compiled_stages import explicit_source, rosenbrock_source
from flows.symbolic import Constant, QuadraticField, scalar_programs

__all__ = ["LANES", "compiled_source", "gradient_source"]

# Points stepped side by side by explicit schemes.
LANES = 64

THREADS = """
parallel = numba.njit(parallel=True, **OPTIONS)
"""

SERIAL = """
parallel = compiled
"""

HEADER = """
import math
import numba
import numpy as np
from flows.symbolic.engines import numba_functions
globals().update(numba_functions())
OPTIONS = dict(error_model="numpy", nogil=True, cache=CACHE, fastmath={"contract"})
compiled = numba.njit(**OPTIONS)
inlined = numba.njit(inline="always", **OPTIONS)
"""


def compiled_source(
    functional: Any, table: Any, n: int, lanes: int, threads: bool
) -> tuple[str, tuple[float, ...]] | None:
    """Source of the kernels ``fixed`` and ``adaptive``, and the numbers p they take.

    Parameters
    ----------
    functional : Energy
        Potentials.
    table : Tableau or LinearTableau
    n : int
        Number of coordinates.
    lanes : int
        Points stepped side by side.
    threads : bool
        Whether points are spread over the cores. Threads wait for each other where
        other programs keep a core busy, which one point shall not.

    Returns
    -------
    pair or None
        None when a potential has no formula, or a parameter is no number.
    """
    numbers = numbers_of(functional, n)
    if numbers is None:
        return None
    parts = [
        HEADER,
        THREADS if threads else SERIAL,
        sizes(n, lanes),
        function_source(functional, numbers, n, "slope"),
    ]
    if hasattr(table, "couplings"):
        timed = functional.depends_on_time
        parts += [
            function_source(functional, numbers, n, "hessian"),
            rosenbrock_source(table, n, timed),
        ]
    else:
        parts.append(explicit_source(table, n))
    return "".join([*parts, LOOPS]), tuple(x for term in numbers for x in term)


def gradient_source(table: Any, n: int, width: int, timed: bool) -> str:
    """Source of the same kernels, which take a slope p(x, t, out) instead of numbers.

    Parameters
    ----------
    table : Tableau or LinearTableau
    n : int
        Number of coordinates.
    width : int
        Diagonals of Hess V beside the main one.
    timed : bool
        Whether V depends on time.
    """
    stages = function_stages(table, width, timed)
    return "".join([HEADER, SERIAL, sizes(n, 1), stages, LOOPS])


def sizes(n: int, lanes: int) -> str:
    """Source of the constants of the loops."""
    return f"d, LANES = {n}, {lanes}\n\n\n"


def numbers_of(functional: Any, n: int) -> list[list[float]] | None:
    """The numbers that each term takes: A and b, or its scale and parameters.

    None when a potential has no formula, or a parameter is no number.
    """
    numbers: list[list[float]] = []
    for term in functional.terms:
        function = term.function
        if isinstance(function, Constant):
            numbers.append([])
        elif isinstance(function, QuadraticField):
            A, b = term.scale * function.matrix(n), term.scale * function.linear(n)
            numbers.append([*A.ravel(), *b])
        else:
            values = [v for _, v in sorted((function.parameters or {}).items())]
            if function.inner_expr(n) is None:
                return None
            if not all(isinstance(v, float) for v in values):
                return None
            numbers.append([term.scale, *values])
    return numbers


def function_source(
    functional: Any, numbers: list[list[float]], n: int, name: str
) -> str:
    """Source of ``slope(x1, .., t, p)``, -grad V, or of ``hessian``, its triangle."""
    second = name == "hessian"
    x = ", ".join(f"x{j}" for j in range(n))
    cells = [(i, j) for i in range(n) for j in range(i + 1 if second else 1)]
    sums: list[list[str]] = [[] for _ in cells]
    texts: list[str] = []
    body: list[str] = []
    at = 0
    for i, (term, own) in enumerate(zip(functional.terms, numbers, strict=True)):
        function = term.function
        if isinstance(function, QuadraticField):
            for line, (row, column) in zip(sums, cells, strict=True):
                if second:
                    line.append(f"p[{at + n * row + column}]")
                    continue
                form = " + ".join(f"p[{at + n * row + k}]*x{k}" for k in range(n))
                line.append(f"(p[{at + n * n + row}] - ({form}))")
        elif own:
            V = function.inner_expr(n)
            text, used = scalar_programs.scalar_source(
                V if second else -V, n, f"{name}{i}", second
            )
            scale = "" if term.scale == 1.0 else f"p[{at}]*"
            names = sorted(function.parameters or {})
            given = "".join(f", p[{at + 1 + names.index(key)}]" for key in used)
            texts.append(f"@compiled\n{text}")
            body.append(f"g{i} = {name}{i}({x}, t{given})")
            for k, line in enumerate(sums):
                line.append(f"{scale}g{i}[{k}]")
        at += len(own)
    values = ", ".join(" + ".join(line) or "0.0" for line in sums)
    body.append(f"return ({values},)")
    head = f"@compiled\ndef {name}({x}, t, p):\n    "
    return "\n".join([*texts, head + "\n    ".join(body) + "\n\n\n"])
