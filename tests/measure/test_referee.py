"""The referee, in this process and in its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.numpy_framework import right

from fuseproof.cases import Case
from fuseproof.child_process import ProcessDied
from fuseproof.frameworks import WrongResultError
from fuseproof.measure import referee as referee_module
from fuseproof.measure import referee_process
from fuseproof.measure.referee import Referee
from fuseproof.measure.referee_process import RefereeProcess
from fuseproof.measure.tensors import write_results
from fuseproof.measure.values import Values
from fuseproof.measure.worker_process import WorkerError

CASE = Case.from_group("layer_norm[7x13-float32-forward]")
BOTH = Case.from_group("matmul[5x3x7-float32-forward_backward]")
SEED = 4


@pytest.fixture
def referee():
    referee = Referee()
    referee.handle({"do": "open_case", "group": CASE.group, "seed": SEED})
    return referee


def result(draw):
    return right(*Values(CASE, SEED).arrays(draw)[0].values())


def written(path, *arrays):
    path.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    return str(path)


def test_a_right_result_has_the_error_of_its_rounding(referee, tmp_path):
    path = tmp_path / "result"
    for draw in (1, 2, 1):
        found = referee.handle({"do": "compare", "draw": draw, "file": written(path, result(draw))})
        assert 0 < found["errors"]["output"] < 1e-6
        assert not path.exists(), "results of a GPU are hundreds of MiB"


def test_the_values_of_another_draw_make_another_result(referee, tmp_path):
    found = referee.compare(draw=2, file=written(tmp_path / "result", result(1)))
    assert found["errors"]["output"] > 0.1


def test_what_is_not_finite_has_no_error(referee, tmp_path):
    wrong = result(1)
    wrong[3, 5] = np.nan
    assert referee.compare(draw=1, file=written(tmp_path / "result", wrong)) == {"errors": {"output": None}}


def test_gradients_stand_behind_the_output(tmp_path):
    referee = Referee()
    referee.open_case(group=BOTH.group, seed=SEED)
    inputs, cotangents = Values(BOTH, SEED).arrays(9)
    (a, b), cotangent = inputs.values(), cotangents["output"]
    tensors = {"grad_b": a.T @ cotangent, "output": a @ b, "grad_a": cotangent @ b.T}
    write_results(tmp_path / "result", tensors, BOTH)
    errors = referee.compare(draw=9, file=str(tmp_path / "result"))["errors"]
    assert list(errors) == ["output", "grad_a", "grad_b"] and max(errors.values()) < 1e-6
    del tensors["grad_a"]
    with pytest.raises(WrongResultError, match="of the results grad_a is missing"):
        write_results(tmp_path / "result", tensors, BOTH)


@pytest.mark.parametrize("rows", [0, 6, 8, 7 * 4])
def test_another_number_of_values_is_refused(referee, tmp_path, rows):
    path = tmp_path / "result"
    with pytest.raises(WrongResultError, match=f"{rows * 13:,} values arrived for results of 91"):
        referee.compare(draw=1, file=written(path, np.ones((rows, 13), np.float32)))
    assert not path.exists()


def test_half_a_value_is_refused(referee, tmp_path):
    path = tmp_path / "result"
    path.write_bytes(result(1).tobytes() + b"12")
    with pytest.raises(WrongResultError, match="values arrived for results of 91"):
        referee.compare(draw=1, file=str(path))


def test_a_result_that_did_not_arrive_is_refused(referee, tmp_path):
    with pytest.raises(WrongResultError, match=r"the result did not arrive \(No such file or directory\)"):
        referee.compare(draw=1, file=str(tmp_path / "absent"))


def test_what_is_no_file_is_refused_at_once(referee, tmp_path):
    """Reading a pipe would wait for whoever made it."""
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)
    link.symlink_to(written(tmp_path / "elsewhere", result(1)))
    folder.mkdir()
    for path in (pipe, link, folder):
        with pytest.raises(WrongResultError, match="the result did not arrive"):
            referee.compare(draw=1, file=str(path))
    assert not pipe.exists() and not link.is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_a_file_that_is_huge_is_not_read(referee, tmp_path):
    path = tmp_path / "result"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(WrongResultError, match=r"274,877,906,944 values arrived for results of 91"):
        referee.compare(draw=1, file=str(path))


def test_the_rows_that_are_compared_are_drawn_anew(tmp_path):
    case = Case.from_group("layer_norm[10000x3-float32-forward]")
    rows = []
    for _ in range(2):
        referee = Referee()
        referee.open_case(group=case.group, seed=SEED)
        rows.append(referee._reference(1, 1)["output"].index[0])
        assert referee._reference(1, 1)["output"].index[0] is rows[-1], "once for a draw"
    assert not np.array_equal(*rows)


def test_references_of_a_few_draws_are_kept(referee):
    for draw in range(10):
        referee._reference(draw, 1)
    assert len(referee._references) == referee_module._KEPT
    referee.open_case(group=CASE.group, seed=SEED + 1)
    assert not referee._references


def test_in_its_own_process_it_says_the_same():
    referee = RefereeProcess()
    try:
        referee.open_case(CASE, SEED)
        file, other = Path(referee.file()), Path(referee.file())
        assert file != other and file.parent == other.parent
        written(file, result(1))
        assert 0 < referee.errors(1, str(file))["output"] < 1e-6
        written(other, np.full((7, 13), np.nan, np.float32))
        assert np.isnan(referee.errors(1, str(other))["output"])
        with pytest.raises(WorkerError, match="the result did not arrive"):
            referee.errors(1, str(file))
    finally:
        referee.close()
    assert not file.parent.exists()


def test_a_referee_that_dies_twice_over_a_result_refuses_it(monkeypatch):
    referee = RefereeProcess()
    try:
        referee.open_case(CASE, SEED)
        asked = []

        def dies(request):
            asked.append(request["do"])
            if request["do"] != "open_case":
                raise ProcessDied("the referee died of SIGKILL")

        with monkeypatch.context() as patch:
            patch.setattr(referee, "_ask_once", dies)
            with pytest.raises(WorkerError, match="could not be compared: the referee died of SIGKILL"):
                referee.errors(1, referee.file())
        assert asked == ["compare", "open_case", "compare"]
        file = Path(referee.file())
        referee.open_case(CASE, SEED)
        assert referee.errors(1, written(file, result(1)))["output"] < 1e-6, "the next one works"
    finally:
        referee.close()


def test_results_that_a_killed_run_left_behind_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(referee_process, "_SHARED_MEMORY", tmp_path)
    left, ours = (tmp_path / f"fuseproof-results-{pid}-x" for pid in (2**22 + 1, os.getpid()))
    for folder in (left, ours):
        folder.mkdir()
        (folder / "0.bin").write_bytes(b"values")
    RefereeProcess().close()
    assert not left.exists() and (ours / "0.bin").exists()


def test_only_the_user_may_look_at_results_on_their_way():
    referee = RefereeProcess()
    folder = Path(referee.file()).parent
    assert folder.stat().st_mode & 0o077 == 0
    referee.close()
    assert not folder.exists(), "also if it was never asked"
