"""A child process that does what a test tells it, and how to see what became of it."""

import os
import sys
import time

import psutil

PATIENCE = 60.0

MODULE = """
import gc, io, json, os, signal, subprocess, sys, threading, time
from fuseproof.child_process import serve

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

def pipe_of_answers():
    places = {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{fd}")}
    return max(fd for fd, place in places.items() if place.startswith("pipe:") and fd > 2 and writes(fd))

def writes(fd):
    flags = [line.split()[1] for line in open(f"/proc/self/fdinfo/{fd}") if line.startswith("flags")]
    return int(flags[0], 8) & 3 == 1

def write(what):
    os.write(pipe_of_answers(), what)

def forked(then):
    if os.fork() == 0:
        then()
        os._exit(0)

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
    if do == "run":
        found = {}
        exec(request["code"], globals(), found)
        return {"found": found.get("found")}
    time.sleep(600)

serve(handle)
"""


def environment(place):
    """Of a child `a_child`, which is written to the folder `place`."""
    place.mkdir()
    (place / "a_child.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join([str(place), *filter(None, sys.path)]), "COLOUR": "blue"}


def run(process, code, timeout=PATIENCE):
    """Let the child execute code: what it calls `found`, or the refusal."""
    process.send({"do": "run", "code": code})
    answered = process.receive(timeout)
    return answered["ok"]["found"] if "ok" in answered else answered


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_stopped(pid):
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()
