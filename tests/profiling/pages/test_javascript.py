"""The viewer's arithmetic in Node's own test runner; Python packs a sample and JavaScript unpacks it.

`node --test tests/profiling/pages/html/*.test.js` runs the same without pytest, but for that sample.
"""

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_trace import synthetic
from support.unpacking import unpack

from fuseproof.profiling.pages import packing
from fuseproof.profiling.pages.viewer_script import viewer_script
from fuseproof.profiling.timeline.model import Column, Counter

FILES = sorted((Path(__file__).parent / "html").glob("*.test.js"))
OLDEST_NODE = 20


@pytest.fixture(scope="module")
def node():
    found = shutil.which("node")
    if found is None:
        pytest.skip("node not found: the viewer's arithmetic is tested in the browser only")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.match(r"v(\d+)", version)[1]) < OLDEST_NODE:
        pytest.skip(f"node {version.strip()} is older than {OLDEST_NODE}: no test runner that is stable")
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A packed timeline with columns of every code, and what is in it."""
    trace = synthetic(12_000, streams=3)
    slices = trace.slices
    index = np.arange(0, len(slices), 2)
    columns = {
        **slices.columns,
        "flops": Column(index=index, value=index * 1_000_003 + 0.5),
        "offset": Column(index=index, value=-7 * index + 100),
        "hlo_op": Column(index=index, value=index % len(trace.names), names=True),
    }
    # So long that some numbers need more than four bytes.
    stretched = {"start_ns": slices.start_ns * 100_000, "duration_ns": slices.duration_ns * 100_000}
    power = Counter(
        name="power",
        unit="W",
        device="GPU 0",
        semantics="sampled",
        time_ns=np.array([5, 10, 2**40]),
        value=np.array([300.5, np.nan, 310.0]),
    )
    trace = replace(
        trace,
        slices=replace(slices, columns=columns, **stretched),
        counters=(*trace.counters, power),
    )
    packed = packing.pack(trace)
    unpacked = unpack(packed)
    manifest = unpacked.manifest
    assert {column["planes"] for column in manifest["columns"].values()} >= {1, 2, 5}
    assert {one["value"]["code"] for one in manifest["sparse"]} == {"float", "zigzag"}
    origin = min(int(slices.start_ns.min()) * 100_000, *(int(one.time_ns[0]) for one in trace.counters))
    expected = {
        "place": np.stack([unpacked.lane, unpacked.depth], 1).tolist(),
        "start": unpacked.start_ns.tolist(),
        "duration": unpacked.duration_ns.tolist(),
        "name": unpacked.name,
        "kind": unpacked.kind,
        "correlation": unpacked.correlation.tolist(),
        "details": unpacked.detail,
        "charts": [
            [
                one.name,
                [
                    (one.time_ns - origin).tolist(),
                    [None if np.isnan(value) else value for value in one.value.tolist()],
                ],
            ]
            for one in trace.counters
        ],
    }
    file = tmp_path_factory.mktemp("packed") / "sample.json"
    file.write_text(json.dumps({"packed": base64.b64encode(packed).decode(), "expected": expected}))
    return file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_in_node(node, sample, file):
    done = subprocess.run(
        [node, "--test-reporter=spec", str(file)],
        env={**os.environ, "FUSEPROOF_PACKED_SAMPLE": str(sample)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^\S+ (tests|pass|skipped) (\d+)$", done.stdout, re.MULTILINE))
    assert int(counts["tests"]) > 0 and counts["pass"] == counts["tests"] and counts["skipped"] == "0"


def test_the_joined_script_parses(node, tmp_path):
    file = tmp_path / "viewer.cjs"
    file.write_text(viewer_script(), encoding="utf-8")
    subprocess.run([node, "--check", str(file)], check=True)
