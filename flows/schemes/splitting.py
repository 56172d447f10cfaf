"""The exact flow map as a scheme, and splittings into named parts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flows.flow import Step
from flows.schemes.base import Scheme, describe, has_noise, lacking

if TYPE_CHECKING:
    from flows.flow import Flow, Memory

__all__ = ["Exact", "Splitting"]

Array = Any


@dataclass(frozen=True)
class Exact(Scheme):
    """u' = exact(t, u, h): the flow map itself, where the flow knows it.

    No error in time for any h (``order`` is the largest integer); needs ``exact``. It
    draws random numbers when the flow has ``noise``.
    """

    order: ClassVar[int] = sys.maxsize
    needs: ClassVar[tuple[str, ...]] = ("exact",)

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        return Step(flow.exact(t, u, h, rng), stats={"exact_calls": 1})

    def obstacle(self, flow: Any) -> str | None:
        """Why this scheme cannot run ``flow``; noise is no obstacle."""
        return lacking(self, flow)

    def draws_noise(self, flow: Any) -> bool:
        """Whether the flow has noise."""
        return has_noise(flow)


@dataclass(frozen=True)
class Splitting(Scheme):
    """Parts of a flow one after the other, in the order of a word.

    A part that occurs k times takes h/k at each occurrence: ``Splitting("AB")`` is the
    Lie splitting exp(hB) exp(hA), ``Splitting("ABA")`` Strang's with h/2, h, h/2, and
    ``Splitting("BAOAB")`` kinetic Langevin with B and A halved.

    Order 2 for a palindrome of parts that are solved with order 2 or more, else 1. A
    part's own time runs from t through its own substeps. Needs ``parts``. There is no
    error estimate, and nothing is kept between the steps.

    Parameters
    ----------
    word : str
        Names of the parts: single letters ``"BAOAB"``, or separated by spaces
        ``"transport reaction transport"``. Every part must occur.
    inner : Scheme or mapping of names to schemes, optional
        For the parts that offer no ``exact`` flow map. A part that a mapping names
        takes that scheme even when it offers one.
    repeat : mapping of names to int, optional
        Parts that are stepped several times at each occurrence, with the full substep
        each time: ``Splitting("DG", inner=Euler(), repeat={"D": 5})`` is alternating
        descent with five critic steps.

    Raises
    ------
    TypeError, ValueError
        For an empty word, names that are not in it, and inner schemes that need the
        history of several steps.

    References
    ----------
    H. F. Trotter, On the product of semi-groups of operators, Proc. Amer. Math. Soc. 10
    (1959) 545-551, doi:10.1090/S0002-9939-1959-0108732-6.
    G. Strang, On the construction and comparison of difference schemes, SIAM J. Numer.
    Anal. 5 (1968) 506-517, doi:10.1137/0705041.

    Examples
    --------
    >>> from flows.schemes import Splitting
    >>> Splitting("BAOAB").order, Splitting("AB").order
    (2, 1)
    """

    word: str
    inner: Scheme | Mapping[str, Scheme] | None = None
    repeat: Mapping[str, int] | None = None

    needs: ClassVar[tuple[str, ...]] = ("parts",)

    def __post_init__(self) -> None:
        if not isinstance(self.word, str):
            raise TypeError(f"`word` must be a string, got {self.word!r}.")
        if not self.word.split():
            raise ValueError(
                '`word` is empty; name the parts, for instance "BAOAB" or '
                '"transport reaction transport".'
            )
        for name in ("inner", "repeat"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                self._check_names(name, value)
                object.__setattr__(self, name, dict(value))
        schemes = self.inner.values() if isinstance(self.inner, dict) else [self.inner]
        for scheme in schemes:
            check_inner(scheme, optional=scheme is self.inner)
        if self.repeat is not None and not isinstance(self.repeat, dict):
            raise TypeError(
                f"`repeat` must map names to integers, got {self.repeat!r}."
            )
        for name, times in (self.repeat or {}).items():
            if isinstance(times, bool) or not isinstance(times, int) or times < 1:
                raise ValueError(
                    f"`repeat` of {name!r} must be a positive integer, got {times!r}."
                )

    def _check_names(self, argument: str, value: Mapping[str, Any]) -> None:
        known = {*self.word.split(), *self.word}
        for name in value:
            if name not in known:
                raise ValueError(
                    f"`{argument}` names {name!r}, which the word {self.word!r} does "
                    "not contain."
                )

    def __repr__(self) -> str:
        words = [repr(self.word)]
        words += [
            f"{name}={value!r}"
            for name, value in (("inner", self.inner), ("repeat", self.repeat))
            if value is not None
        ]
        return f"Splitting({', '.join(words)})"

    @property
    def order(self) -> int:  # type: ignore[override]
        """2 for a palindrome of parts solved with order 2 or more, else 1."""
        names = self.names()
        inner = self.inner
        schemes = inner.values() if isinstance(inner, Mapping) else [inner or Exact()]
        accurate = all(scheme.order >= 2 for scheme in schemes)
        return 2 if accurate and names == names[::-1] else 1

    @property
    def draws(self) -> int:  # type: ignore[override]
        """Random arrays of one step: those of all substeps together."""
        return sum(self._draws_of(name) * self._times(name) for name in self.names())

    def names(self, parts: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """The word as names; ``parts`` tells one long name from several letters."""
        names = tuple(self.word.split())
        if len(names) > 1 or (parts is not None and names[0] in parts):
            return names
        return tuple(names[0])

    def step(
        self, flow: Flow, t: Any, u: Array, h: Any, rng: Any, memory: Memory
    ) -> Step:
        """One step; see ``Scheme.step``."""
        parts = flow.parts()
        names = self.names(parts)
        count, done = Counter(names), Counter[str]()
        work, drawn = Counter[str](), 0
        for name in names:
            part, size = parts[name], h / count[name]
            scheme = self.scheme_of(name, part)
            for _ in range(self._times(name)):
                stream = None if rng is None else rng.with_draw(rng.draw + drawn)
                start = t + done[name] * size
                step = scheme.step(part, start, u, size, stream, ())
                u = step.u
                work.update(step.stats)
                done[name] += 1
                drawn += self._draws_of(name)
        return Step(u, stats=dict(work))

    def scheme_of(self, name: str, part: Any) -> Scheme:
        """The scheme that solves the part ``name``.

        Raises
        ------
        TypeError
            When the part offers no flow map and ``inner`` has nothing for it.
        """
        if isinstance(self.inner, Mapping):
            if name in self.inner:
                return self.inner[name]
        elif self.inner is not None and lacking(Exact(), part):
            return self.inner
        missing = lacking(Exact(), part)
        if missing:
            raise TypeError(
                f"`{self!r}` has no scheme for the part {name!r}: it offers no `exact` "
                f"flow map; give inner={{{name!r}: Heun()}} or another scheme"
            )
        return Exact()

    def obstacle(self, flow: Any) -> str | None:
        """Why this splitting cannot run ``flow``; None when it can.

        Raises
        ------
        ValueError
            When the word names unknown parts or leaves one out.
        """
        missing = lacking(self, flow)
        if missing:
            return missing
        parts = flow.parts()
        names = self.names(parts)
        listed = ", ".join(repr(name) for name in parts)
        for name in names:
            if name not in parts:
                raise ValueError(
                    f"The word {self.word!r} names {name!r}, but the parts of "
                    f"{describe(flow)} are {listed}."
                )
        for name, part in parts.items():
            if name not in names:
                raise ValueError(
                    f"The word {self.word!r} leaves out {name!r}; the parts of "
                    f"{describe(flow)} are {listed}, and all must occur."
                )
            try:
                problem = self.scheme_of(name, part).obstacle(part)
            except TypeError as error:
                return str(error)
            if problem:
                return f"In the part {name!r}: {problem}"
        return None

    def draws_noise(self, flow: Any) -> bool:
        """Whether the scheme of any part draws random numbers."""
        return any(
            self.scheme_of(name, part).draws_noise(part)
            for name, part in flow.parts().items()
        )

    def _times(self, name: str) -> int:
        return (self.repeat or {}).get(name, 1)

    def _draws_of(self, name: str) -> int:
        inner = self.inner.get(name) if isinstance(self.inner, Mapping) else self.inner
        return 1 if inner is None else inner.draws


def check_inner(scheme: Any, *, optional: bool) -> None:
    """Refuse what cannot advance a part by itself."""
    if scheme is None and optional:
        return
    if not isinstance(scheme, Scheme):
        raise TypeError(
            "`inner` must be a scheme such as Heun(), or map names to schemes; got "
            f"{scheme!r}."
        )
    if scheme.multistep:
        raise ValueError(
            f"`{scheme!r}` needs the history of earlier steps, which a splitting does "
            "not keep; take a one-step scheme such as TRBDF2() or EulerMaruyama()."
        )
