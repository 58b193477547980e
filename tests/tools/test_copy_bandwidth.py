"""Copy bandwidth without a GPU: its arithmetic with a fake clock, and what it says where it cannot run."""

import copy_bandwidth
import pytest


def test_bytes_read_and_written_by_the_median_of_long_timings():
    asked = []

    def seconds_of(calls):
        asked.append(calls)
        slow = 3 if len(asked) % 3 == 0 else 1  # a minority of timings is disturbed
        return slow * (0.003 * calls)

    assert copy_bandwidth.gigabytes_per_second(6_000_000, seconds_of) == pytest.approx(4.0)
    assert asked[: -copy_bandwidth.TIMINGS] == [1, 2, 4]  # 4 calls take 36 ms, 2 took 6 ms
    assert asked[-copy_bandwidth.TIMINGS :] == [4] * copy_bandwidth.TIMINGS


@pytest.mark.parametrize(
    ("size", "cache", "pairs"),
    [(1 << 30, 50 << 20, 2), (8 << 20, 50 << 20, 13), (100, 1000, 20), (101, 1000, 20), (99, 1000, 21)],
)
def test_buffers_are_four_times_the_cache(size, cache, pairs):
    assert copy_bandwidth.pairs_of(size, cache) == pairs


def test_the_sizes_are_those_of_the_norms():
    sizes = copy_bandwidth.sizes()
    assert sizes == sorted(set(sizes))
    assert {4096 * 1024 * 2, 32768 * 16384 * 2, 8192 * 262144 * 2} <= set(sizes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "copy_bandwidth: PyTorch sees no CUDA GPU here; run it on a machine with one\n"),
        (["--bytes", "8", "0"], "copy_bandwidth: --bytes must be positive, not 0\n"),
    ],
)
def test_what_it_cannot_do_it_says_in_one_line(arguments, says, monkeypatch, capsys):
    torch = pytest.importorskip("torch", reason="is asked for the GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert copy_bandwidth.main(arguments) == 2
    assert capsys.readouterr().err == says
