"""Files of runs: ``.npz`` with a JSON header, read without executing anything."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "SCHEMA",
    "header",
    "previous",
    "read_meta",
    "read_npz",
    "replace",
    "space_from_json",
    "space_to_json",
]

SCHEMA = 1


def header(meta: dict[str, Any]) -> dict[str, Any]:
    """The JSON header as a member of an ``.npz`` file."""
    return {"meta": np.array(json.dumps(meta))}


def space_to_json(space: Any) -> dict[str, Any] | None:
    """Class name and fields of a space whose fields are plain numbers and names."""
    if space is None:
        return None
    values = {f.name: getattr(space, f.name) for f in fields(space) if f.init}
    try:
        json.dumps(values)
    except TypeError:
        return None
    return {"class": type(space).__name__, "fields": values}


def space_from_json(data: dict[str, Any] | None) -> Any:
    """Inverse of ``space_to_json``; None for a space this version does not know."""
    from flows import spaces

    if data is None or data["class"] not in spaces.__all__:
        return None
    values = {k: _tuples(v) for k, v in data["fields"].items()}
    kind = getattr(spaces, data["class"])
    axes = values.pop("axes", ())
    return kind(*axes, **values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, every byte checked by its CRC; nothing is executed.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a file that is truncated, altered or not of this format.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # The CRC is compared when a member has been read whole, so the bytes
                # are read before NumPy believes the header.
                raw = io.BytesIO(archive.read(name))
                value = np.lib.format.read_array(raw, allow_pickle=False)
                arrays[name.removesuffix(".npy")] = value
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or not a file of flows "
            f"({type(error).__name__}: {error})."
        ) from error
    return arrays


def read_meta(path: Path, arrays: dict[str, np.ndarray], kind: str) -> dict[str, Any]:
    """The JSON header, checked for kind and schema."""
    try:
        meta = json.loads(str(arrays.pop("meta")[()]))
        found, schema = meta["kind"], meta["schema"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} has no header of flows; it is not a {kind}."
        ) from error
    if found != kind:
        raise ValueError(f"{path} is a {found}, not a {kind}.")
    if schema != SCHEMA:
        raise ValueError(
            f"{path} was written in format {schema}; this version reads {SCHEMA}. "
            "Use the version of flows that wrote it."
        )
    return dict(meta)


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one move; what was there becomes ``path.prev``."""
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            keep(path)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def keep(path: Path) -> None:
    """Make the file ``path.prev`` too; ``path`` itself stays if that is possible."""
    spare = path.with_name(f".{path.name}.prev.tmp")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        # A file system without hard links: for a moment only path.prev exists.
        os.replace(path, previous(path))
    else:
        os.replace(spare, previous(path))


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(path.name + ".prev")
