"""Child processes that answer, crash, hang, fork and are paused."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.children import PATIENCE, is_running, is_stopped, run, wait_until

from fuseproof.child_process import Child, Process, ProcessDied, family


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


def test_a_detached_process_has_its_own_session(process):
    process.send({"do": "pid"})
    assert process.receive(PATIENCE)["ok"] == {
        "pid": process.pid,
        "arguments": ["argument"],
        "colour": "blue",
    }
    assert os.getsid(process.pid) == process.pid, "Ctrl-C does not reach it"


def test_a_killed_process_names_the_signal_and_its_log(process, tmp_path):
    os.kill(process.pid, signal.SIGKILL)
    process.send({"do": "pid"})
    for _ in range(2):  # the same each time
        with pytest.raises(ProcessDied, match=f"the process died of SIGKILL; see {tmp_path / 'log'}"):
            process.receive(PATIENCE)
    process.send({"do": "pid"})
    assert process.strays() == []
    process.pause()
    process.resume()


# What it may leave behind, in the order of how hard it is to find.
STRAYS = {
    "a child": "found = subprocess.Popen(SLEEP).pid",
    "in a session of its own": "found = subprocess.Popen(SLEEP, start_new_session=True).pid",
    "without environment": "found = subprocess.Popen(SLEEP, start_new_session=True, env={}).pid",
    "of a parent that has ended": (
        "program = 'import subprocess, sys; print(subprocess.Popen(' + repr(SLEEP) + "
        "', stdout=subprocess.DEVNULL, start_new_session=True, env={}).pid)'\n"
        "found = int(subprocess.run([sys.executable, '-c', program], stdout=subprocess.PIPE).stdout)"
    ),
}


@pytest.mark.parametrize("code", STRAYS.values(), ids=STRAYS)
def test_what_it_leaves_behind_is_named_and_ended_with_it(code, process):
    assert process.strays() == []
    stray = run(process, code)
    assert wait_until(lambda: "sleep" in "".join(process.strays()))
    [found] = process.strays()
    assert found.endswith(f"(process {stray})")
    process.pause()
    assert wait_until(lambda: is_stopped(stray)) and is_stopped(process.pid)
    process.resume()
    assert wait_until(lambda: not is_stopped(stray)) and not is_stopped(process.pid)
    process.close(patience=0.1)
    assert not is_running(stray)


@pytest.mark.parametrize("leave", ["pass", "os.setsid()"])
def test_one_that_forks_and_exits_is_dead_at_once_and_so_is_its_child(leave, process, tmp_path):
    code = f"""
def stay():
    {leave}
    open({str(tmp_path / "stray")!r}, "w").write(str(os.getpid()))
    time.sleep(600)
forked(stay)
while not (os.path.exists({str(tmp_path / "stray")!r}) and open({str(tmp_path / "stray")!r}).read()):
    time.sleep(0.01)
os._exit(3)
"""
    started = time.monotonic()
    with pytest.raises(ProcessDied, match="exited with status 3"):
        run(process, code)
    assert time.monotonic() - started < PATIENCE / 2, "it is not waited for"
    assert not is_running(int((tmp_path / "stray").read_text()))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.execv(SLEEP[0], SLEEP)", "closed its pipe of answers and was ended"),
        ("os.closerange(3, 70000); time.sleep(600)", "closed its pipe of answers and was ended"),
        ("os.closerange(0, 70000)", "exited with status 1"),
        ("[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)", "gave no answer for 1 s"),
        ("raise KeyboardInterrupt", "exited with status|died of SIGINT"),
    ],
)
def test_there_is_no_way_not_to_answer_but_to_be_ended(code, message, process):
    run(process, "pass")
    with pytest.raises(ProcessDied, match=message):
        run(process, code, timeout=1.0)
    assert not is_running(process.pid)


def test_one_that_someone_has_stopped_runs_on_at_the_next_request(process):
    run(process, "pass")
    assert not process.release()
    os.kill(process.pid, signal.SIGSTOP)
    while not family.is_stopped(process.pid):
        pass
    assert process.release()
    os.kill(process.pid, signal.SIGSTOP)
    run(process, f"x = {'1' * 2**20!r}")  # more than the pipe takes


def test_one_that_is_stopped_before_its_answer_runs_on(process):
    run(process, "os.kill(os.getpid(), signal.SIGSTOP)", timeout=PATIENCE)


def test_closing_one_that_someone_has_stopped_does_not_hang(process):
    run(process, "pass")
    os.kill(process.pid, signal.SIGSTOP)
    process.close(patience=PATIENCE)  # it runs on, and ends by itself
    assert not is_running(process.pid)


def test_a_paused_process_does_nothing_and_a_request_wakes_it(process):
    run(
        process,
        "global counted; counted = [0]\n"
        "def count():\n  while True: counted[0] += 1; time.sleep(1e-4)\n"
        "threading.Thread(target=count, daemon=True).start()",
    )
    process.pause()
    process.pause()
    assert is_stopped(process.pid)
    used = psutil.Process(process.pid).cpu_times()
    time.sleep(0.1)
    assert psutil.Process(process.pid).cpu_times() == used
    assert run(process, "found = counted[0]") > 0
    process.pause()
    process.close(patience=PATIENCE)
    assert not is_running(process.pid)


def test_a_long_request_and_a_long_answer_go_through(process):
    process.send({"do": "run", "code": "found = 'y' * 3_000_000", "more": "x" * 3_000_000})
    assert len(process.receive(PATIENCE)["ok"]["found"]) == 3_000_000


def test_the_current_folder_is_not_on_its_path(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("json", "fuseproof", "numpy", "selectors", "a_library")
    for name in names:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not a library')")
    path = os.pathsep.join(["", *filter(None, environment["PYTHONPATH"].split(os.pathsep)), ""])
    process = Process("a_child", environment=environment | {"PYTHONPATH": path}, detached=True)
    code = f"import importlib.util as u; found = [str(u.find_spec(name)) for name in {names!r}]"
    found = run(process, code)
    assert not [each for each in found if str(tmp_path) in each]
    process.close()


def test_a_package_that_is_run_from_its_own_folder_is_found_by_the_child(monkeypatch):
    from fuseproof.child_process import process

    root = str(Path(process.__file__).parents[2])
    monkeypatch.setattr(sys, "path", [root, "/elsewhere"])
    assert process._with_path({})["PYTHONPATH"] == root
    monkeypatch.setattr(sys, "path", ["/elsewhere", root])
    assert process._with_path({"PYTHONPATH": ":/mine:"})["PYTHONPATH"] == "/mine"
