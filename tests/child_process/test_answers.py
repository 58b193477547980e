"""What is an answer, what a message may hold, and what becomes of a process that forges one."""

import json
import re
import secrets
import time

import pytest
from support.children import PATIENCE, is_running, run

from fuseproof.child_process import PlainError, ProcessCheated, ProcessDied, answer, one_line


def test_a_child_that_comes_back_from_its_fork_does_not_answer(process):
    for _ in range(5):
        assert run(process, "os.fork()") is None
    assert run(process, "found = os.getpid()") == process.pid


FORGED = {
    "text": b"not json\n",
    "no UTF-8": b"\xff\xfe\n",
    "NUL": b"\0\n",
    "an empty line": b"\n",
    "half a line": b"half",
    "no mapping": b"[]\n",
    "a string": b'"ok"\n',
    "without number": b'{"ok": {}}\n',
    "with another number": b'{"number": "0", "ok": {}}\n',
    "with null": b'{"number": null, "ok": {}}\n',
    "nested": b"[" * 100_000 + b"\n",
    "a number of 10,000 digits": b"1" * 10_000 + b"\n",
}


@pytest.mark.parametrize("written", FORGED.values(), ids=FORGED)
def test_what_is_no_answer_ends_the_process(written, process):
    run(process, "pass")
    with pytest.raises(
        ProcessCheated, match="wrote to the pipe of answers something that is no answer"
    ) as caught:
        run(process, f"write({written!r})")
    assert str(caught.value).isprintable()
    assert not is_running(process.pid)
    with pytest.raises(ProcessDied):
        process.receive(PATIENCE)


def test_writing_to_whatever_pipe_there_is_ends_the_process(process):
    code = """
for fd in range(3, 12):
    try:
        if "pipe" in os.readlink(f"/proc/self/fd/{fd}"): os.write(fd, b"not json\\n")
    except OSError: pass
"""
    with pytest.raises(ProcessCheated, match="not json"):
        run(process, code)


@pytest.mark.parametrize("notice", [lambda process: process.send({}), lambda process: process.strays()])
def test_what_is_written_when_nothing_was_asked_ends_the_process(notice, process):
    run(process, "threading.Timer(0.05, write, [b'{}\\n']).start()")
    time.sleep(0.3)
    with pytest.raises(ProcessCheated, match=r"no answer: \{\}"):
        notice(process)
    assert not is_running(process.pid)


def test_an_answer_without_end_ends_the_process(process, monkeypatch):
    monkeypatch.setattr("fuseproof.child_process.process._LONGEST_ANSWER", 2**20)
    with pytest.raises(ProcessCheated):
        run(process, "while True: write(b'0' * 2**16)")


@pytest.mark.parametrize(
    "body", ['"ok": {}, "error": ""', '"ok": []', '"error": 3', '"skipped": null', '"fine": {}', ""]
)
def test_an_answer_of_another_form_is_none_though_its_number_is_right(body, process, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda size: "7" * 32)
    with pytest.raises(ProcessCheated):
        forged = "{" + ", ".join(filter(None, [f'"number": "{"7" * 32}"', body])) + "}\n"
        run(process, f"write({forged.encode()!r})")


def test_an_answer_is_taken_once(process, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda size: "7" * 32)
    forged = json.dumps({"number": "7" * 32, "ok": {"found": "forged"}}) + "\n"
    with pytest.raises(ProcessCheated):
        run(process, f"write({forged.encode()!r})")
        time.sleep(0.3)
        process.strays()


PATCHES = """
import _json, builtins, fuseproof.child_process.serving as serving
def forged(*arguments, **more): return '{"ok": {"found": "forged"}}'
json.dumps = json.loads = json.JSONEncoder.encode = json.JSONEncoder.iterencode = forged
json.encoder.encode_basestring_ascii = json.encoder.c_make_encoder = _json.make_encoder = forged
json.JSONDecoder.decode = json.JSONDecoder.raw_decode = json.decoder.scanner.c_make_scanner = forged
serving.answer = serving.one_line = os.write = os.read = os.getpid = builtins.print = forged
sys.stdin = sys.stdout = sys.stderr = None
found = "true"
"""


def test_patching_what_writes_the_answers_does_not_change_them(process):
    for _ in range(2):
        assert run(process, PATCHES) == "true"
    assert run(process, "raise ValueError('x')").keys() == {"error"}


def test_the_number_of_an_answer_is_nowhere_that_code_looks(process, monkeypatch):
    drawn = []
    monkeypatch.setattr(secrets, "token_hex", lambda size: drawn.append(f"{len(drawn):032}") or drawn[-1])
    code = """
frame, seen = sys._getframe(), [str(dict(os.environ)), open("/proc/self/cmdline").read()]
while frame:
    seen += [repr(frame.f_locals), repr(frame.f_globals)]
    frame = frame.f_back
seen += [each for each in gc.get_objects() if isinstance(each, str)]
seen += [repr(each) for each in gc.get_objects() if type(each) in (dict, list, tuple)]
found = "\\n".join(seen)
"""
    seen = run(process, code)
    assert len(drawn) == 1 and drawn[0] not in seen


class _NoMessage(Exception):
    def __str__(self):
        raise SystemExit(3)


class _NoName(type):
    __name__ = property(lambda self: 1 / 0)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (NotImplementedError(), {"skipped": "not implemented"}),
        (PlainError("output has another shape"), {"error": "output has another shape"}),
        (ValueError("bad\n  shape"), {"error": "ValueError: bad shape"}),
        (SystemExit(3), {"error": "SystemExit: 3"}),
        (GeneratorExit(), {"error": "GeneratorExit:"}),
        (_NoMessage(), {"error": "an exception whose message raises SystemExit"}),
        (
            _NoName("Odd", (Exception,), {})(),
            {"error": "an exception whose message raises ZeroDivisionError"},
        ),
        (
            ValueError("bad \udc80 surrogate \x1b[31mred\x1b[0m \x00 \u202e"),
            {"error": r"ValueError: bad \udc80 surrogate \x1b[31mred\x1b[0m \x00 \u202e"},
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_error_is_an_answer(error, found):
    def fails(request):
        raise error

    assert answer(fails, {}) == found


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit", "SystemExit:"),
        ("global f\ndef f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("found = {1, 2}", "TypeError: the answer holds a set, which is no JSON"),
        ("found = []; found.append(found)", "RecursionError"),
        (r"raise ValueError('\udc80 \x1b')", r"ValueError: \\udc80 \\x1b"),
    ],
)
def test_no_error_ends_the_process(code, message, process):
    assert re.match(message, run(process, code)["error"])
    assert run(process, "found = float('inf')") == float("inf")


def test_a_message_is_cut():
    assert len(one_line("word " * 9999)) == 500
    assert len(one_line("\x1b" * 9999)) == 500
    assert one_line("Grüße,\t世界 🎉") == "Grüße, 世界 🎉"


def test_no_answer_holds_what_is_no_character(process):
    assert run(process, r"found = {'\udc80': ['\udfff', '🎉', 1.5, None]}") == {
        r"\udc80": [r"\udfff", "🎉", 1.5, None]
    }
