"""Checksums in our files, so that a flipped bit is recognised and not believed.

A state ends with a line that holds the SHA-256 of all before it; torch reads such a file as it
stands. Weights have one in their header, a summary in its last key, an event in its line. What was
written before there were checksums is read as it is. They protect against disks and accidents, not
against somebody who changes a file and its checksum. Imports torch only for tensors.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purenoise.smallfile import check_small

KEY = "sha256"
LINE = b"\npurenoise sha256 %s\n"  # after a state
TAIL = len(LINE % (b"0" * 64))
PIECE = 1 << 20  # bytes that are read at a time


def checksum_line(content: bytes | memoryview) -> bytes:
    """Return the line that follows a file's content.

    Example:
        >>> len(checksum_line(b"content")) == TAIL
        True
    """
    return LINE % hashlib.sha256(content).hexdigest().encode()


def line_fits(path: Path) -> bool | None:
    """Return whether a file is what its last line says; None if it has no such line.

    Raises:
        OSError: If it cannot be read.
    """
    check_small(path)  # a FIFO would be waited at, a device read for ever
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL))
        found = re.fullmatch(rb"\npurenoise sha256 ([0-9a-f]{64})\n", file.read())
        if found is None:
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), size - TAIL
        while left > 0 and (piece := file.read(min(PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest().encode() == found[1]


def with_sha256(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the checksum of its values as the last key.

    Example:
        >>> sorted(with_sha256({"a": 1}))
        ['a', 'sha256']
    """
    rest = {key: value for key, value in content.items() if key != KEY}
    return {**rest, KEY: _of_values(rest)}


def sha256_fits(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is what its checksum says; True if it has none.

    Example:
        >>> sha256_fits(with_sha256({"a": 1}) | {"a": 2}), sha256_fits({"a": 2})
        (False, True)
    """
    rest = {key: value for key, value in content.items() if key != KEY}
    return KEY not in content or content[KEY] == _of_values(rest)


def _of_values(content: Mapping[str, Any]) -> str:
    # Through JSON once more, so that tuples are lists, as they are when it is read back.
    plain = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def event_line(event: Mapping[str, Any]) -> str:
    """Return an event as a line of JSON that carries its checksum.

    Example:
        >>> event_line({"event": "end"}).rstrip()
        '{"event": "end", "crc": "67fbb546"}'
    """
    text = json.dumps(event)
    return f'{text[:-1]}, "crc": "{_crc(text)}"}}\n'


def event_of(line: str) -> dict[str, Any] | None:
    """Return the event in a line, without its checksum; None if it is torn or changed."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    crc = event.pop("crc", None)
    return event if crc is None or crc == _crc(json.dumps(event)) else None


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def tensors_sha256(tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 over names, types, shapes and values of tensors, in order of the names.

    Args:
        tensors: Tensors by name, on the CPU.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_fit(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None) -> bool:
    """Return whether tensors are what the header of their safetensors file says.

    Args:
        tensors: Of the file, by name.
        metadata: Of its header; without a checksum of ours any tensors fit.
    """
    try:
        head = json.loads((metadata or {}).get("purenoise", "{}"))
    except ValueError:
        return False
    wanted = head.get(KEY) if isinstance(head, dict) else None
    return wanted is None or wanted == tensors_sha256(tensors)
