"""What a worker's crash, refusal and forgery are for the runner."""

import os
import sys

import pytest

from fuseproof.measure.worker_process import (
    WorkerCheated,
    WorkerDied,
    WorkerError,
    WorkerProcess,
    WorkerSkip,
)

PATIENCE = 60.0

MODULE = """
import os, subprocess, sys, threading
from fuseproof.child_process import serve

def pipes():
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and "pipe" in link(fd)]

def link(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""

def garbage():
    for fd in pipes():
        try:
            os.write(fd, b"not json\\n")
        except OSError:
            pass

def handle(request):
    do = request.pop("do")
    if do == "start" and sys.argv[1] == "refused":
        raise NotImplementedError("no device")
    if do == "start" and sys.argv[1] == "crashed":
        os._exit(1)
    if do == "fail":
        raise ValueError("\\x1b[31mred")
    if do == "skip":
        raise NotImplementedError("not here")
    if do == "die":
        os.abort()
    if do == "forge":
        garbage()
    if do == "spawn":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return request

serve(handle)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "a_worker.py").write_text(MODULE)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    started = []

    def start(framework="torch"):
        started.append(
            WorkerProcess(
                framework,
                device="cpu",
                threads=1,
                cpus=[],
                environment=environment,
                log=tmp_path / "logs" / "log",
                module="a_worker",
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_an_answer_is_what_the_request_returned(start):
    worker = start()
    assert worker.wait_ready() == {"device": "cpu", "threads": 1, "cpus": []}
    assert worker.ask("echo", timeout=PATIENCE, number=3) == {"number": 3}


@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        ("fail", WorkerError, r"^ValueError: \\x1b\[31mred$"),
        ("skip", WorkerSkip, "^not here$"),
        ("die", WorkerDied, "died of SIGABRT; see .*logs/log$"),
        ("forge", WorkerCheated, "wrote to the pipe of answers something that is no answer: not json"),
    ],
)
def test_what_went_wrong_is_an_exception_of_its_own(do, kind, message, start):
    with pytest.raises(kind, match=message):
        start().ask(do, timeout=PATIENCE)


def test_one_that_forged_an_answer_is_dead(start):
    worker = start()
    with pytest.raises(WorkerCheated):
        worker.ask("forge", timeout=PATIENCE)
    with pytest.raises(WorkerDied, match="no answer"):
        worker.ask("echo", timeout=PATIENCE)
    assert issubclass(WorkerCheated, WorkerError)


@pytest.mark.parametrize(
    ("framework", "kind", "message"),
    [("refused", WorkerSkip, "no device"), ("crashed", WorkerDied, "exited with status 1")],
)
def test_one_that_does_not_start_says_the_same_each_time(framework, kind, message, start):
    worker = start(framework)
    for _ in range(2):
        with pytest.raises(kind, match=message):
            worker.ask("echo", timeout=PATIENCE)


def test_a_paused_worker_wakes_when_it_is_asked(start):
    worker = start()
    worker.wait_ready()
    worker.pause()
    assert worker.ask("echo", timeout=PATIENCE) == {}
    worker.pause()
    worker.resume()


def test_what_a_worker_leaves_behind_is_named(start):
    worker = start()
    worker.ask("echo", timeout=PATIENCE)
    assert worker.strays() == []
    worker.ask("spawn", timeout=PATIENCE)
    [stray] = worker.strays()
    assert "(process " in stray
