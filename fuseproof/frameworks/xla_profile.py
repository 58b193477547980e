"""The XPlane file that the profilers of JAX and TensorFlow leave deep in their own folder."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path


def keep_xplane(folder: Path, file: str) -> dict[str, str]:
    """Compress the only `.xplane.pb` below `folder/plugins` to `folder/file`; the rest there derives from it.

    Raises RuntimeError unless there is exactly one.
    """
    plugins = folder / "plugins"
    found = list(plugins.rglob("*.xplane.pb"))
    if len(found) != 1:
        raise RuntimeError(f"the profiler left {len(found)} traces in {plugins} instead of one")
    with found[0].open("rb") as plain, gzip.open(folder / file, "wb", compresslevel=6) as compressed:
        shutil.copyfileobj(plain, compressed)
    shutil.rmtree(plugins)
    return {"file": file, "kind": "xplane"}
