"""Memory that calls keep: what grows in every window is a leak, what fills is none."""

from __future__ import annotations

import gc

import pytest

from fuseproof.checking import memory

SECONDS = 1e-6


def leak_of(call):
    return memory.leak(call, SECONDS, None)


@pytest.mark.parametrize(
    ("kept", "least"),
    [
        (lambda: bytearray(5000), 5000),
        (lambda: [object()], 1),
        (lambda: object(), 1),
        (lambda: str(object()), 1),
    ],
)
def test_what_each_call_keeps_is_found(kept, least):
    held = []
    found = leak_of(lambda: held.append(kept()))
    assert found is not None and found.per_call >= 0.9 * least
    assert found.message.startswith("each call keeps ")
    assert f"seen over {found.calls} calls" in found.message


@pytest.mark.parametrize("most", [1, 40, 100])
def test_a_cache_that_fills_is_none(most):
    cache = {}

    def call():
        cache[len(cache) % most] = bytearray(3000)

    assert leak_of(call) is None


def test_garbage_in_a_cycle_is_none():
    class Node:
        pass

    def call():
        node = Node()
        node.itself, node.payload = node, bytearray(1000)

    assert leak_of(call) is None


def test_memory_of_a_device_is_read_where_there_is_one():
    used = [0]

    def call():
        used[0] += 512

    found = memory.leak(call, SECONDS, lambda: used[0])
    assert found.message == "each call keeps 512 B of memory of the device, seen over 256 calls"


def test_slow_functions_are_called_less_often_and_the_slowest_not_at_all():
    calls = []
    memory.leak(lambda: calls.append(1), 1.0, None)
    assert len(calls) <= 2 * 9 + 1
    assert memory.reason_against(2.5) == "not checked: a call takes 2.50 s"
    assert memory.reason_against(0.1) in ("", "not checked outside Python: that needs glibc 2.33 or newer")


@pytest.mark.parametrize(
    ("growth", "leak"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 1], True),
        ([1, 1, 9, 1, 1, 30, 1, 1], True),  # a list or a table that grows by steps
        ([181, 107, 127, 100, 66, 46, 63, 41], False),  # a cache that fills, as torch.compile has one
        ([1, 1, 1, 0, 1, 1, 1, 1], False),
        ([50, 50, 50, 50, 50, 50, 50, 2], False),
        ([0.5] * 8, False),
    ],
)
def test_a_leak_is_steady_and_lasts(growth, leak):
    assert memory.grows([float(each) for each in growth], 0.9) is leak


def test_the_collector_is_left_as_it_was():
    leak_of(lambda: None)
    assert gc.isenabled() and gc.get_freeze_count() == 0
