"""What processor this machine has. Standard library only."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


@functools.cache
def processor() -> tuple[str, frozenset[str] | None]:
    """Its name, and its features as Linux calls them; ``None`` where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())
