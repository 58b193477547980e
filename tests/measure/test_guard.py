"""What the guard finds in a process, and what it lets pass."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType, SimpleNamespace

import pytest
from support.guarded import in_a_process

from fuseproof.frameworks import WrongResultError
from fuseproof.measure import process_state
from fuseproof.measure.guard import Guard


class Place:
    """A class of a framework."""

    def function(self):
        return 1

    def wrapped_by_the_framework(self):
        return 2


@pytest.fixture
def settings():
    return {"threads": 1, "mode": "usual"}


@pytest.fixture
def module():
    found = ModuleType("library")
    exec("def function(): return 1\ndef other(): return 2", vars(found))
    found.constant = 3
    return found


@pytest.fixture
def guard(settings, module):
    watched = {module: (), Place: ("wrapped_by_the_framework",)}
    return Guard(SimpleNamespace(state=lambda: dict(settings), watched=lambda: watched))


def test_nothing_changed_is_no_difference(guard):
    guard.compare()
    guard.compare()


def test_a_changed_setting_is_named_with_both_values(guard, settings):
    settings["threads"] = 4
    with pytest.raises(WrongResultError, match=r"^changed the process that it is timed in: threads: 1 → 4$"):
        guard.compare()
    settings["threads"] = 1
    guard.compare()


def test_a_setting_that_is_gone_or_of_another_type_is_a_difference(guard, settings):
    settings["threads"] = True
    with pytest.raises(WrongResultError, match="threads: 1 → True"):
        guard.compare()
    del settings["threads"]
    with pytest.raises(WrongResultError, match="threads: 1 → None"):
        guard.compare()


def test_a_setting_that_a_library_adds_is_none(guard, settings):
    settings["new"] = 1
    guard.compare()


def test_what_we_change_ourselves_is_allowed_and_nothing_else(guard, settings):
    settings["mode"] = "changed by the implementation"
    guard.allow(lambda: settings.update(threads=2))
    with pytest.raises(WrongResultError, match=r"mode: usual → changed by the implementation$"):
        guard.compare()
    settings["mode"] = "usual"
    guard.compare()


def test_a_replaced_function_is_named(guard, module, monkeypatch):
    monkeypatch.setattr(module, "function", lambda: 1)
    with pytest.raises(WrongResultError, match=r"replaced library\.function$"):
        guard.compare()


def test_a_deleted_function_is_named(guard, module, monkeypatch):
    monkeypatch.delattr(module, "other")
    with pytest.raises(WrongResultError, match=r"replaced library\.other$"):
        guard.compare()


def test_an_exchanged_code_object_is_named(guard, module):
    module.function.__code__ = module.other.__code__
    with pytest.raises(WrongResultError, match=r"replaced what is in library\.function"):
        guard.compare()


def test_a_method_of_a_class_is_watched_but_for_what_the_framework_itself_wraps(guard, monkeypatch):
    monkeypatch.setattr(Place, "wrapped_by_the_framework", lambda self: 2)
    guard.compare()
    monkeypatch.setattr(Place, "function", lambda self: 1)
    with pytest.raises(WrongResultError, match=r"replaced Place\.function$"):
        guard.compare()


def test_what_is_added_is_no_replacement(guard, module):
    module.another = lambda: 3
    guard.compare()


def test_many_differences_are_cut(guard, module, settings, monkeypatch):
    for name in ("function", "other"):
        monkeypatch.setattr(module, name, lambda: 0)
    monkeypatch.setattr(Place, "function", lambda self: 0)
    monkeypatch.setattr(process_state.json, "dumps", lambda *given: "")
    with pytest.raises(WrongResultError) as raised:
        guard.compare()
    assert str(raised.value).endswith("…") and str(raised.value).count(",") == 2


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("time", "perf_counter"),
        ("json", "dumps"),
        ("gc", "get_objects"),
        ("statistics", "median"),
        ("builtins", "min"),
        ("numpy", "allclose"),
        ("fuseproof.measure.tensors", "to_arrays"),
        ("fuseproof.measure.prepared", "Prepared"),
        ("fuseproof.frameworks.host_view", "equal"),
    ],
)
def test_the_clock_the_harness_and_what_it_uses_are_watched(place, name):
    said = in_a_process(f"""
        import {place}
        import fuseproof.measure.worker
        from fuseproof.measure.guard import Guard
        from types import SimpleNamespace
        guard = Guard(SimpleNamespace(state=dict, watched=dict))
        look(guard)
        own = {place}.{name}
        setattr({place}, {name!r}, lambda *given, **named: own(*given, **named))
        look(guard)
    """)
    assert said == [None, f"changed the process that it is timed in: replaced {place}.{name}"]


def test_a_constant_of_the_harness_is_watched():
    said = in_a_process("""
        import fuseproof.measure.worker as worker
        from fuseproof.measure.guard import Guard
        from types import SimpleNamespace
        guard = Guard(SimpleNamespace(state=dict, watched=dict))
        worker._LATE_TOLERANCE = 1e9
        look(guard)
    """)
    assert said == [
        "changed the process that it is timed in: replaced fuseproof.measure.worker._LATE_TOLERANCE"
    ]


def test_a_method_of_the_harness_is_watched():
    said = in_a_process("""
        import fuseproof.measure.worker as worker
        from fuseproof.measure.guard import Guard
        from types import SimpleNamespace
        guard = Guard(SimpleNamespace(state=dict, watched=dict))
        worker.Worker.time = lambda self: {}
        look(guard)
    """)
    assert said == ["changed the process that it is timed in: replaced Worker.time"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("gc.disable()", "garbage collector: True → False"),
        ("sys.setswitchinterval(1.0)", "switch interval: 0.005 → 1.0"),
        ("sys.settrace(lambda *given: None)", "trace function: False → True"),
        ("sys.setprofile(lambda *given: None)", "profile function: False → True"),
        ("os.nice(5)", r"CPU affinity, niceness, scheduler: "),
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "CPU affinity, niceness, scheduler: "),
        (
            "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
            "CPU affinity, niceness, scheduler: ",
        ),
    ],
    ids=["collector", "switches", "trace", "profile", "niceness", "affinity", "scheduler"],
)
def test_a_setting_of_the_process_is_found(change, name):
    if "affinity" in change and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one CPU is all there is, so that there is nothing to change")
    said = in_a_process(f"""
        import gc, os, sys
        from fuseproof.measure.guard import Guard
        from types import SimpleNamespace
        guard = Guard(SimpleNamespace(state=dict, watched=dict))
        {change}
        look(guard)
    """)
    assert name in said[0]


WATCH = """
from types import SimpleNamespace
from fuseproof.measure.guard import Guard
guard = Guard(SimpleNamespace(state=dict, watched=dict))
def run(source, file="/somewhere/mine.py"):
    exec(compile(source, file, "exec"), {})
guard.watch()
"""


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import sys\ndef f(): sys._getframe(1)\nf()", "sys._getframe in f"),
        ("import sys\ndef f(): sys._current_frames()\nf()", "sys._current_frames in f"),
        ("import gc\ndef f(): gc.get_objects()\nf()", "gc.get_objects in f"),
        ("import gc\ndef f(): gc.get_referrers(gc)\nf()", "gc.get_referrers in f"),
        ("import gc\ndef f(): gc.get_referents(gc)\nf()", "gc.get_referents in f"),
        ("import inspect\ndef f(): inspect.stack()\nf()", "sys._getframe in f"),
        ("import inspect\ndef f(): inspect.currentframe()\nf()", "sys._getframe in f"),
        ("import traceback\ndef f(): traceback.extract_stack()\nf()", "sys._getframe in f"),
        ("def f():\n try: 1 / 0\n except Exception as e: e.__traceback__.tb_frame\nf()", "tb_frame in f"),
        ("def f(): exec('import sys; sys._getframe(1)')\nf()", "sys._getframe in f"),
    ],
)  # fmt: skip
def test_code_from_outside_that_looks_at_frames_or_objects_is_found(source, what):
    said = in_a_process(f"{WATCH}look(guard)\nrun({source!r})\nlook(guard)")
    assert said == [None, f"looked at what times it: {what}"]


def test_what_libraries_look_at_for_themselves_is_no_looking():
    """Named tuples, warnings and logging ask for their caller's frame; code that is loaded may do so."""
    honest = (
        "import collections, dataclasses, enum, functools, logging, typing, warnings",
        "collections.namedtuple('P', 'x y'); enum.Enum('E', 'a b'); typing.NamedTuple('N', [('x', int)])",
        "dataclasses.make_dataclass('D', ['x']); functools.lru_cache(lambda: 1)()",
        "warnings.warn('a word'); logging.getLogger().warning('a word')",
    )
    program = f"""
run({chr(10).join(honest)!r})
import gc, sys
gc.collect()
run("import sys; sys._getframe()", {importlib.__file__!r})
run("import sys; sys._getframe()", sys.modules["fuseproof.measure.guard"].__file__)
look(guard)
"""
    assert in_a_process(WATCH + program) == [None]
    before = WATCH.replace("guard.watch()", "run('import sys; sys._getframe()')\nguard.watch()")
    assert in_a_process(before + "look(guard)") == [None]


def test_many_guards_in_one_process_do_not_ask_each_other():
    more = "more = [Guard(SimpleNamespace(state=dict, watched=dict)) for _ in range(12)]\n"
    program = WATCH + more + "for each in more: each.watch()\nrun('import sys; sys._getframe()')\nlook(guard)"
    assert in_a_process(program) == ["looked at what times it: sys._getframe in <module>"]
