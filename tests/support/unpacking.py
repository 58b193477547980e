"""A packed timeline read back in Python: what `profiling/pages/html/unpack.js` does in the browser."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.pages.packing import Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class Unpacked:
    """The content of a packed timeline: slices in the order of rows, times since the first event."""

    manifest: dict[str, Any]
    lane: Integers
    depth: Integers
    start_ns: Integers
    duration_ns: Integers
    name: tuple[str, ...]
    kind: tuple[str, ...]
    correlation: Integers  # -1 unknown
    detail: tuple[dict[str, Any], ...]


def unpack(packed: bytes) -> Unpacked:
    """The inverse of `packing.pack`, as `html/unpack.js` is in the browser."""
    data = zlib.decompress(packed)
    size = int.from_bytes(data[:4], "little")
    manifest = json.loads(data[4 : 4 + size])
    body = data[4 + size :]
    column = {name: read_column(body, one) for name, one in manifest["columns"].items()}
    lane, depth, start = [], [], []
    at = 0
    for i, one in enumerate(manifest["lanes"]):
        for d, count in enumerate(one["rows"]):
            gaps = column["gap"][at : at + count]
            durations = column["duration"][at : at + count]
            start.append(np.cumsum(gaps + durations) - durations)
            lane.append(np.full(count, i))
            depth.append(np.full(count, d))
            at += count
    nothing = np.empty(0, np.int64)
    details = [*manifest["details"]]
    detail: list[dict[str, Any]] = [dict(details[i]) for i in column["detail"].tolist()]
    for one in manifest["sparse"]:
        values = read_column(body, one["value"]).tolist()
        for i, value in zip(read_column(body, one["at"]).tolist(), values, strict=True):
            detail[i][one["name"]] = manifest["names"][value] if one["names"] else value
    return Unpacked(
        manifest=manifest,
        lane=np.concatenate([nothing, *lane]),
        depth=np.concatenate([nothing, *depth]),
        start_ns=np.concatenate([nothing, *start]),
        duration_ns=column["duration"],
        name=tuple(manifest["names"][i] for i in column["name"].tolist()),
        kind=tuple(manifest["kinds"][i]["name"] for i in column["kind"].tolist()),
        correlation=column["correlation"] - 1,
        detail=tuple(detail),
    )


def read_column(body: bytes, one: Mapping[str, Any]) -> NDArray[Any]:
    """A column of a packed timeline, described by `one`: [count] int64, or float64 if its code is `float`."""
    count, planes, at = one["count"], one["planes"], one["at"]
    wide = np.zeros((count, 8), np.uint8)
    wide[:, :planes] = np.frombuffer(body, np.uint8, count * planes, at).reshape(planes, count).T
    if one["code"] == "float":
        return wide.view("<f8").ravel()
    values = wide.view("<u8").ravel()
    if one["code"] == "plain":
        return values.astype(np.int64)
    signed = (values >> np.uint64(1)).astype(np.int64) ^ -(values & np.uint64(1)).astype(np.int64)
    return np.cumsum(signed) if one["code"] == "delta" else signed
