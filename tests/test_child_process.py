"""Child processes that answer, refuse, print, crash and hang."""

import os
import signal
import sys
import time

import psutil
import pytest

from fuseproof.child_process import Child, PlainError, Process, ProcessDied, answer, one_line

PATIENCE = 60.0

MODULE = """
import os, subprocess, sys, time
from fuseproof.child_process import serve

def handle(request):
    do = request["do"]
    if do == "pid":
        return {"pid": os.getpid(), "arguments": sys.argv[1:], "colour": os.environ["COLOUR"]}
    if do == "print":
        print("what a compiler prints")
        return {}
    if do == "skip":
        raise NotImplementedError("needs\\nanother device")
    if do == "abort":
        os.abort()
    if do == "exit":
        print("SomeError: no luck", file=sys.stderr)
        os._exit(7)
    if do == "check":
        print("F0101 file.cc:1] Check failed: x", file=sys.stderr, flush=True)
        print("a stack trace", file=sys.stderr, flush=True)
        os.abort()
    if do == "spawn":
        return {"pid": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid}
    time.sleep(600)

serve(handle)
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "a_child.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "COLOUR": "blue"}


@pytest.fixture
def child(environment):
    with Child("a_child", environment) as child:
        yield lambda do, timeout=PATIENCE: child.ask({"do": do}, timeout=timeout)


def test_what_it_prints_is_no_answer(child):
    assert child("print") == {"ok": {}}
    assert child("skip") == {"skipped": "needs another device"}
    assert child("pid")["ok"]["colour"] == "blue"


def test_after_its_death_another_one_answers(child):
    first = child("pid")["ok"]["pid"]
    assert child("pid")["ok"]["pid"] == first
    assert child("abort") == {"error": "the compiling process died of SIGABRT"}
    assert child("pid")["ok"]["pid"] != first
    assert child("exit") == {"error": "the compiling process exited with status 7: SomeError: no luck"}
    message = "the compiling process died of SIGABRT: F0101 file.cc:1] Check failed: x"
    assert child("check") == {"error": message}


def test_one_that_hangs_is_ended(child):
    first = child("pid")["ok"]["pid"]
    assert child("hang", timeout=0.2) == {"error": "gave no answer for 0 s and was ended"}
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert "ok" in child("pid")


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_detached_process_is_ended_with_all_that_it_started(environment, tmp_path):
    log = tmp_path / "log"
    process = Process("a_child", "argument", environment=environment, log=log, detached=True)
    process.send({"do": "pid"})
    assert process.receive(PATIENCE)["ok"] == {
        "pid": process.pid,
        "arguments": ["argument"],
        "colour": "blue",
    }
    assert os.getsid(process.pid) == process.pid, "Ctrl-C does not reach it"
    process.send({"do": "spawn"})
    grandchild = process.receive(PATIENCE)["ok"]["pid"]
    process.send({"do": "hang"})
    process.close(patience=0.1)
    deadline = time.monotonic() + PATIENCE
    while is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(grandchild)


def test_a_killed_process_names_the_signal_and_its_log(environment, tmp_path):
    log = tmp_path / "log"
    process = Process("a_child", environment=environment, log=log, detached=True)
    os.kill(process.pid, signal.SIGKILL)
    process.send({"do": "pid"})
    with pytest.raises(ProcessDied, match=f"the process died of SIGKILL; see {log}"):
        process.receive(PATIENCE)
    process.close()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (NotImplementedError(), {"skipped": "not implemented"}),
        (PlainError("output has another shape"), {"error": "output has another shape"}),
        (ValueError("bad\n  shape"), {"error": "ValueError: bad shape"}),
    ],
    ids=repr,
)
def test_an_error_is_an_answer(error, found):
    def fails(request):
        raise error

    assert answer(fails, {}) == found


def test_a_message_is_cut():
    assert len(one_line("word " * 9999)) == 500
