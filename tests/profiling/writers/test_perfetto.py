"""A written file read back: the same slices and busy times, and one slice at a time on each track."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict

import numpy as np
import pytest
from support import shared
from support.brute_force import union

from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.readers.xplane import protobuf
from fuseproof.profiling.timeline.model import DEVICE_WORK, KINDS
from fuseproof.profiling.writers import perfetto


def message(data, start, end):
    out = defaultdict(list)
    for number, kind, value, begin, finish in protobuf.scalar_fields(data, start, end):
        out[number].append((begin, finish) if kind == protobuf.LENGTH else value)
    return out


def read_back(content):
    """Slices as (track, start, end, name, category), tracks as uuid → (name, parent), counter samples."""
    data = np.frombuffer(content, np.uint8)

    def text(place):
        return bytes(data[place[0] : place[1]]).decode()

    tracks, names, categories = {}, {}, {}
    slices, samples, open_ = [], [], defaultdict(list)
    for packet in message(data, 0, len(data))[1]:
        fields = message(data, *packet)
        assert fields[10] == [1]
        for place in fields[60]:
            found = message(data, *place)
            process = message(data, *found[3][0])[6] if found[3] else []
            name = text(process[0]) if process else text(found[2][0])
            assert found[1][0] not in tracks
            tracks[found[1][0]] = (name, found[5][0] if found[5] else None, bool(found[8]))
        for place in fields[12]:
            found = message(data, *place)
            for number, target in ((1, categories), (2, names)):
                for entry in found[number]:
                    interned = message(data, *entry)
                    assert interned[1][0] not in target
                    target[interned[1][0]] = text(interned[2][0])
        for place in fields[11]:
            event = message(data, *place)
            track, time = event[11][0], fields[8][0]
            assert track in tracks
            if event[9] == [1]:
                assert not open_[track], "a track holds one slice at a time"
                open_[track].append((time, names[event[10][0]], categories[event[3][0]]))
            elif event[9] == [2]:
                start, name, category = open_[track].pop()
                slices.append((track, start, time, name, category))
            else:
                assert event[9] == [4]
                samples.append((track, time, np.uint64(event[44][0]).view(np.float64)))
    assert not any(open_.values())
    return slices, tracks, samples


def check(timelines, path):
    perfetto.write(timelines, path)
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    slices, tracks, samples = read_back(content)
    assert len(slices) == sum(len(timeline.slices) for timeline in timelines)
    expected = sorted(
        (int(start), int(end), timeline.names[name], KINDS[kind])
        for timeline in timelines
        for start, end, name, kind in zip(
            timeline.slices.start_ns,
            timeline.slices.end_ns,
            timeline.slices.name,
            timeline.slices.kind,
            strict=True,
        )
    )
    assert sorted(each[1:] for each in slices) == expected
    return slices, tracks, samples


def busy(slices, tracks, process):
    return union(
        (start, end)
        for track, start, end, _, category in slices
        if category in DEVICE_WORK and tracks[tracks[track][1]][0].startswith(process)
    )


@pytest.mark.parametrize("name", ["h100_bert.kineto.json.gz", "mi300_jax_conv.xplane.pb"])
def test_samples_keep_slices_and_busy_time(name, tmp_path):
    timeline = readers.load(shared.sample(name))
    slices, tracks, samples = check([timeline], tmp_path / "out.pftrace.gz")
    for device in timeline.devices():
        assert busy(slices, tracks, device.name) == device.busy_ns
    expected = sum(int(np.isfinite(each.running_bytes()).sum()) for each in timeline.memory)
    expected += sum(int(np.isfinite(each.reserved).sum()) for each in timeline.memory)
    assert len(samples) == expected > 0
    assert all(tracks[track][2] for track, _, _ in samples)


def test_overlaps_and_instants_are_kept(tmp_path):
    def event(start, duration, name="é </x>"):
        place = {"ph": "X", "cat": "kernel", "pid": 0, "tid": 7}
        return {**place, "name": name, "ts": start, "dur": duration}

    events = [event(0, 10), event(5, 10), event(5, 0), event(15, 0), event(15, 2, "")]
    source = tmp_path / "trace.json"
    source.write_text(json.dumps({"traceEvents": events}))
    timeline = readers.load(source)
    slices, tracks, _ = check([timeline], tmp_path / "one.pftrace")
    assert busy(slices, tracks, "GPU 0") == timeline.devices()[0].busy_ns == 17_000
    twice, tracks, _ = check([timeline, timeline], tmp_path / "two.pftrace")
    assert len({tracks[tracks[track][1]][0] for track, *_ in twice}) == 1
    assert len({tracks[track][1] for track, *_ in twice}) == 2


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        perfetto.write([], tmp_path / "none" / "x.pftrace")
