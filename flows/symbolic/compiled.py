"""Generated sources as modules, so that numba keeps their machine code on disk.

numba caches functions of a file, not those of a string. A source therefore becomes a
file, named by its hash, in a private folder of the user; where no such folder can be
had, it is compiled in memory, every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType

__all__ = ["cache_folder", "generated_module"]

# Sources kept on disk; the ones used longest ago are deleted first.
MOST_FILES = 200


@lru_cache(maxsize=256)
def generated_module(text: str) -> ModuleType:
    """The module of a generated source ``text``.

    A constant ``CACHE`` is defined in it: whether its functions can be cached.

    Parameters
    ----------
    text : str
        Source made by this library alone; nothing that a user typed reaches it.
    """
    name = "flows_" + hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = cache_folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            return _from_file(_write(folder, name, text), name)
    module = ModuleType(name)
    module.__dict__["CACHE"] = False
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module


def cache_folder() -> Path | None:
    """The user's private folder of generated sources (0700), None without one.

    It is ``flows`` in ``XDG_CACHE_HOME`` or in ``~/.cache``. A folder that belongs to
    somebody else, or that others may write to, is not used.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "flows"
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    if hasattr(os, "getuid"):
        foreign = status.st_uid != os.getuid()
        if foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
    return folder if os.access(folder, os.W_OK) else None


def _write(folder: Path, name: str, text: str) -> Path:
    """The file of a source; written once, in one move, and never overwritten."""
    path = folder / f"{name}.py"
    whole = f"CACHE = True\n{text}"
    if path.exists() and path.read_text() == whole:
        os.utime(path.parent)
        return path
    _sweep(folder)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(whole)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _sweep(folder: Path) -> None:
    """Delete the oldest sources and their machine code beyond ``MOST_FILES``."""
    files = sorted(folder.glob("flows_*.py"), key=lambda p: p.stat().st_mtime)
    for old in files[: max(0, len(files) - MOST_FILES + 1)]:
        for code in (folder / "__pycache__").glob(f"{old.stem}.*"):
            code.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _from_file(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OSError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # numba asks for the module of a cached function by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
