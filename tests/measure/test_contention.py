"""Waiting for a CPU: others' programs explain a gap between two clocks, one's own do not."""

import os
import subprocess
import sys
import time

import pytest

from fuseproof.measure.contention import Account, Others, is_worth_a_look, waited

BUSY = "while True: pass"


def account(queued=0.0, **used):
    return Account(queued=queued, used={int(name[1:]): value for name, value in used.items()})


@pytest.mark.parametrize(
    ("queued", "used", "counted"),
    [
        (0.0, {"p0": 0.1, "p7": 0.3}, 0.0),
        (0.5, {"p0": 0.1, "p7": 0.3}, 0.5),
        (0.5, {"p0": 0.1, "p7": 1.6}, 0.3),  # two CPUs for a second, of which it and its own used 1.7
        (0.5, {"p0": 0.1, "p7": 1.0, "p8": 0.9}, 0.0),  # what it started kept both busy
    ],
)
def test_only_what_others_could_have_used_counts(queued, used, counted):
    before = account(1.0, p0=2.0, p7=5.0)
    after = account(1.0 + queued, p0=2.0 + used["p0"], p7=5.0 + used["p7"], p8=used.get("p8", 0.0))
    assert waited(before, after, 1.0, 2) == pytest.approx(counted)


def test_where_no_others_ran_nobody_waited_for_them():
    others = Others()
    for number in range(100):
        before = Account(queued=0.0, used={7: number * 1.0}, busy=number * 1.0)
        others.note(before, Account(queued=0.5, used={7: number + 1.0}, busy=number + 1.05), 1.0)
    assert not others.are_there, "what was busy is its own, but for a twentieth of a CPU"
    for _ in range(20):
        others.note(account(0.0, p7=0.0), Account(queued=0.5, used={7: 1.0}, busy=2.0), 1.0)
    assert others.are_there


def test_what_has_started_is_looked_for_where_it_may_matter():
    assert not is_worth_a_look(account(1.0), account(1.0001))
    assert is_worth_a_look(account(1.0), account(1.001))


@pytest.fixture
def together():
    """Two processes that want the same CPU all the time."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}])\nprint(flush=True)\n{BUSY}"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        process.stdout.readline()
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_kernel_says_who_waited(together):
    one, other = together
    if not os.path.exists(f"/proc/{one.pid}/schedstat"):  # noqa: PTH110
        pytest.skip("this kernel keeps no account of waiting")
    before, started = Account.of(one.pid), time.perf_counter()
    time.sleep(0.5)
    seconds, after = time.perf_counter() - started, Account.of(one.pid)
    with_both = Account.of(one.pid, [other.pid])
    queued = after.queued - before.queued
    assert 0.05 * seconds < queued < 1.5 * seconds, "it had about half of the time"
    assert 0 < after.used[one.pid] - before.used[one.pid] < seconds
    # The other is somebody else's, or its own: on one CPU nothing is left that others could have used.
    assert waited(before, after, seconds, 1) > 0
    own = Account(queued=before.queued, used={**before.used, other.pid: with_both.used[other.pid] - seconds})
    assert waited(own, with_both, seconds, 1) == 0


def test_a_process_that_is_gone_waited_for_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert Account.of(process.pid).used[process.pid] == 0.0
