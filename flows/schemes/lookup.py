"""Schemes by name, and the check before the first step."""

from __future__ import annotations

from typing import Any

from flows.schemes.base import Scheme, lacking
from flows.schemes.bdf import BDF
from flows.schemes.dissipative import AverageVectorField, Gonzalez, ItohAbe
from flows.schemes.explicit import (
    DOP853,
    RK4,
    BogackiShampine,
    DormandPrince,
    Euler,
    Heun,
    Tsit5,
)
from flows.schemes.exponential import Exponential
from flows.schemes.forward_backward import DouglasRachford, ForwardBackward
from flows.schemes.implicit import BDF2, SDIRK3, TRBDF2, ImplicitEuler
from flows.schemes.inertial import FISTA, PolyakMomentum
from flows.schemes.proximal import JKO, MinimizingMovement
from flows.schemes.radau import Radau
from flows.schemes.rosenbrock import Rosenbrock
from flows.schemes.saddle import Extragradient, Optimistic
from flows.schemes.splitting import Exact, Splitting
from flows.schemes.stochastic import EulerMaruyama, LeimkuhlerMatthews

__all__ = ["SCHEMES", "require", "scheme_named"]

SCHEMES: dict[str, type[Scheme]] = {
    "Euler": Euler,
    "Heun": Heun,
    "RK4": RK4,
    "BogackiShampine": BogackiShampine,
    "DormandPrince": DormandPrince,
    "Tsit5": Tsit5,
    "DOP853": DOP853,
    "ImplicitEuler": ImplicitEuler,
    "TRBDF2": TRBDF2,
    "BDF2": BDF2,
    "SDIRK3": SDIRK3,
    "BDF": BDF,
    "Radau": Radau,
    "Rosenbrock": Rosenbrock,
    "Exponential": Exponential,
    "AverageVectorField": AverageVectorField,
    "Gonzalez": Gonzalez,
    "ItohAbe": ItohAbe,
    "MinimizingMovement": MinimizingMovement,
    "JKO": JKO,
    "Extragradient": Extragradient,
    "Optimistic": Optimistic,
    "FISTA": FISTA,
    "PolyakMomentum": PolyakMomentum,
    "ForwardBackward": ForwardBackward,
    "DouglasRachford": DouglasRachford,
    "EulerMaruyama": EulerMaruyama,
    "LeimkuhlerMatthews": LeimkuhlerMatthews,
    "Exact": Exact,
    "Splitting": Splitting,
}
"""Every scheme of the library by its public name."""


def scheme_named(name: str) -> Scheme:
    """The scheme ``name`` with its default options: ``scheme_named("RK4")`` is RK4().

    Raises
    ------
    ValueError
        For an unknown name, with the list of names, and for ``"Splitting"``, which
        has no default word.
    """
    if name == "Splitting":
        raise ValueError('A splitting needs its word: Splitting("ABA").')
    if name == "StepDoubling":
        raise ValueError("Step doubling needs its scheme: StepDoubling(RK4()).")
    if name not in SCHEMES:
        raise ValueError(
            f"There is no scheme named {name!r}; the names are {', '.join(SCHEMES)}."
        )
    return SCHEMES[name]()


def require(scheme: Any, flow: Any) -> None:
    """Check that ``flow`` offers what ``scheme`` needs.

    Raises
    ------
    TypeError
        When it does not; the text lists the schemes that work. Also for a class
        instead of a scheme, and for anything else.
    ValueError
        For a splitting whose word does not fit the parts of the flow.
    """
    if isinstance(scheme, type) and issubclass(scheme, Scheme):
        name = scheme.__name__
        raise TypeError(f"`scheme` is the class {name}; write `{name}()`.")
    if not isinstance(scheme, Scheme):
        known = isinstance(scheme, str) and scheme in SCHEMES
        example = f"{scheme}()" if known else "RK4()"
        raise TypeError(f"`scheme` must be a scheme such as {example}, got {scheme!r}.")
    obstacle = scheme.obstacle(flow)
    if obstacle:
        usable = ", ".join(working(flow)) or "none of this library"
        raise TypeError(f"{obstacle}. Schemes that work here: {usable}.")


def working(flow: Any) -> list[str]:
    """The schemes that can run ``flow``, as the user types them."""
    names = []
    for name, kind in SCHEMES.items():
        if kind is Splitting or name == "JKO":
            continue
        if kind().obstacle(flow) is None:
            names.append(f"{name}()")
    if lacking(Splitting("A"), flow) is None:
        parts = list(flow.parts())
        word = ("" if all(len(part) == 1 for part in parts) else " ").join(parts)
        solved = Splitting(word).obstacle(flow) is None
        names.append(f"Splitting({word!r}{'' if solved else ', inner=...'})")
    return names
