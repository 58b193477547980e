"""What a child process prints, up to a limit."""

import threading

from support.children import PATIENCE, run

from fuseproof.child_process import Process, log


def test_what_it_prints_beyond_the_limit_is_counted_and_its_end_is_kept(process, tmp_path):
    printed = tmp_path / "log"
    assert run(process, "print('the beginning'); [print('x' * 1023) for _ in range(20_000)]") is None
    assert run(process, "os.system('echo the last words >&2')") is None
    process.close(patience=PATIENCE)
    text = printed.read_text()
    assert text.startswith("the beginning\n") and "\nthe last words\n" in text
    assert "bytes were left out here" in text
    assert log.HEAD_BYTES < len(text) < log.HEAD_BYTES + 2 * log.TAIL_BYTES
    written = 20_000 * 1024 + len("the beginning\nthe last words\n")
    [dropped] = [line.split()[1] for line in text.splitlines() if line.endswith("left out here …")]
    assert int(dropped.replace(",", "")) == written - log.HEAD_BYTES - log.TAIL_BYTES


def test_a_successor_appends_to_the_log_but_not_beyond_the_limit(environment, tmp_path):
    for _ in range(3):
        process = Process("a_child", environment=environment, log=tmp_path / "log", detached=True)
        run(process, "[print('x' * 1023) for _ in range(2000)]")
        process.close(patience=PATIENCE)
    assert (tmp_path / "log").stat().st_size < log.HEAD_BYTES + 4 * log.TAIL_BYTES


def test_no_thread_is_left(environment, tmp_path):
    before = threading.active_count()
    process = Process("a_child", environment=environment, detached=True)
    run(process, "pass")
    process.close(patience=PATIENCE)
    assert threading.active_count() == before
