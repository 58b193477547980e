"""`fuseproof fusion` as a user runs it: real compilers on the CPU, and what is wrong with the input."""

import importlib.util
import json

import pytest

from fuseproof import cli, implementations, suites
from fuseproof.cases import Case
from fuseproof.commands import fusion
from fuseproof.errors import UserError
from fuseproof.fusion import account
from fuseproof.fusion.account import Account, Pair
from fuseproof.measure import planning
from fuseproof.measure.planning import Selection
from fuseproof.runs.directory import RunDirectory

ROWS, COLUMNS = 509, 771
CASE = f"layer_norm[{ROWS}x{COLUMNS}-float32-forward]"
ELEMENTS = ROWS * COLUMNS
LEAST = 4 * (2 * ELEMENTS + 2 * COLUMNS)  # x, weight and bias read once, the output written once

MINE = {
    "jax": '''
import jax.numpy as jnp

def scaled(x, weight, bias):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-5) * weight + bias
''',
    "tensorflow": '''
import tensorflow as tf

def scaled(x, weight, bias):
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    return centred / tf.sqrt(variance + 1e-5) * weight + bias
''',
}  # fmt: skip
ROWS_OF_MINE = """
from fuseproof import Implementation

IMPLEMENTATIONS = [
    Implementation("layer_norm", "jax.mine", framework="jax", target="mine_jax.py:scaled", compiled="jit"),
    Implementation("layer_norm", "tf.mine", framework="tensorflow", target="mine_tensorflow.py:scaled",
                   compiled="xla"),
]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The account of one implementation of each framework and of two of a user's, and its folder."""
    for framework in ("torch", "jax", "tensorflow"):
        # Not imported: TensorFlow and triton in one process crash it.
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    folder = tmp_path_factory.mktemp("account")
    for framework, text in MINE.items():
        (folder / f"mine_{framework}.py").write_text(text)
    (folder / "mine.py").write_text(ROWS_OF_MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text, code = fusion.run(
            [CASE],
            only=("torch.compile-composed", "jax.jit", "tf.function", "tf.xla", "jax.mine", "tf.mine"),
            extra=["mine.py:IMPLEMENTATIONS"],
            threads=1,
            output=folder / "kept",
        )
    assert code == 0, text
    return {each.implementation: each for each in account.load(folder / "kept")}, folder / "kept"


def test_torch_one_kernel_is_left_of_nine(made):
    found = made[0]["torch.compile-composed"]
    assert found.compared_with == "torch.eager-composed"
    assert found.kernels == found.operations == Pair(eager=9, compiled=1)
    # Tensors of the size of x, read or written: mean 1, centre 2, square 2 (one input, read once), mean 1,
    # scale 2, weight 2, bias 2.
    assert found.bytes.eager == 4 * (12 * ELEMENTS + 8 * ROWS + 2 * COLUMNS)
    (kernel,) = found.fusions
    assert set(kernel.members) == {"add", "mean", "mul", "rsqrt", "sub"}
    assert LEAST <= kernel.bytes < 1.05 * LEAST


@pytest.mark.parametrize("name", ["jax.jit", "tf.xla", "jax.mine", "tf.mine"])
def test_the_profiler_sees_what_the_optimised_hlo_launches(made, name):
    found = made[0][name]
    assert found.kernels.compiled == found.operations.compiled == len(found.after)
    assert found.kernels.compiled < found.kernels.eager
    assert found.bytes.compiled < found.bytes.eager
    assert found.bytes.compiled >= LEAST
    assert found.fusions
    assert set(found.unknown) <= {"peak_memory_eager", "peak_memory_compiled"}


def test_tensorflow_ops_are_counted_without_those_that_only_name_tensors(made):
    accounts, _ = made
    assert accounts["tf.function"].kernels == Pair(eager=10, compiled=10)
    assert accounts["tf.function"].after is None
    assert "not XLA" in accounts["tf.function"].unknown["after"]
    # Mean, Sub, Mul, Mean, AddV2, Sqrt, RealDiv, Mul, AddV2 as the user wrote them.
    assert accounts["tf.mine"].kernels.eager == 9
    assert accounts["tf.mine"].compared_with == "tf.mine (not compiled)"


def test_a_peak_holds_the_output_or_is_unknown(made):
    for found in made[0].values():
        for side in ("eager", "compiled"):
            memory = getattr(found.peak_memory_bytes, side)
            if memory is None:
                assert found.unknown[f"peak_memory_{side}"].startswith(("peak memory of", "neither"))
            else:
                assert memory >= 4 * ELEMENTS, (found.implementation, side)


def test_a_peak_below_the_results_is_none():
    forward, both = (Case.from_group(f"layer_norm[4x8-float32-{p}]") for p in ("forward", "forward_backward"))
    assert forward.reason_against_peak(4 * 32) is None
    assert "does not even hold the results, 128" in forward.reason_against_peak(4 * 32 - 1)
    gradients = 32 + 8 + 8
    assert both.reason_against_peak(4 * (32 + gradients)) is None
    assert both.reason_against_peak(4 * (32 + gradients) - 1) is not None
    products = Case.from_group("matmul[16x16x16-float8_e4m3-forward]")  # the result is bfloat16
    assert products.reason_against_peak(2 * 256) is None
    assert products.reason_against_peak(2 * 256 - 1) is not None


def test_the_compilers_files_are_kept_and_named(made):
    accounts, folder = made
    for found in accounts.values():
        for place in found.artifacts.values():
            assert (folder / place).read_text()
    code = folder / accounts["torch.compile-composed"].artifacts["Inductor's code, forward"]
    assert "cpp_fused" in code.read_text()
    assert "HloModule" in (folder / accounts["tf.mine"].artifacts["HLO before optimisation"]).read_text()


def test_the_account_round_trips_and_says_what_is_measured(made):
    accounts, folder = made
    document = json.loads((folder / account.FILE).read_text())
    assert "not measured" in document["labels"]["bytes"]
    assert [Account.from_json(each) for each in document["accounts"]] == list(accounts.values())
    text = account.render_text(list(accounts.values()))
    assert "not measured" in text
    assert "9 → 1" in text
    assert "unknown: before, after" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a case"),
        (["layer_norm[64x64]"], "is not a case"),
        (["no_such[64x64-float32-forward]"], "no_such"),
        ([CASE, "--only", "torch.eager"], "is not compiled: nothing is fused; try torch.compile,"),
        ([CASE, "--only", "torch.imagined"], "unknown implementation 'torch.imagined'"),
        ([CASE, "--run", "nowhere"], "is not a run directory"),
        ([CASE, "--implementations", "nowhere.py:ROWS"], "no such file"),
        ([CASE, "-o", "/proc/nope"], "cannot write to /proc/nope"),
        ([CASE, "-o", __file__], "File exists; choose a writable folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fusion", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_what_cannot_run_here_is_skipped_with_its_reason(tmp_path):
    text, code = fusion.run([CASE], only=("triton",), output=tmp_path)
    assert code == 0
    assert "skipped: triton: needs cuda" in text
    (found,) = account.load(tmp_path)
    assert (found.status, found.after, found.compared_with) == ("skipped", None, "torch.eager")


def test_a_function_that_fails_is_a_failure_with_its_reason(tmp_path, monkeypatch):
    pytest.importorskip("jax", reason="pip install 'fuseproof[jax]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(
        "from fuseproof import Implementation\n"
        "def f(x, weight, bias): raise ValueError('wants other shapes')\n"
        "ROW = Implementation('layer_norm', 'jax.broken', framework='jax', target='broken.py:f', "
        "compiled='jit')\n"
    )
    text, code = fusion.run(
        [CASE], only=("jax.broken",), extra=["broken.py:ROW"], output=tmp_path / "kept", as_json=True
    )
    assert code == 1
    (found,) = json.loads(text)["accounts"]
    assert (found["status"], found["reason"]) == ("failed", "ValueError: wants other shapes")
    assert found["kernels"] == {"eager": None, "compiled": None}


def test_a_function_that_always_compiles_eagerly_loses_that_figure_alone(tmp_path, monkeypatch):
    pytest.importorskip("jax", reason="pip install 'fuseproof[jax]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "looping.py").write_text(
        "from fuseproof import Implementation\n"
        "def f(x, weight, bias):\n"
        "    import jax\n"
        "    def row(carry, each):\n"
        "        centred = each - each.mean()\n"
        "        return carry, centred * jax.lax.rsqrt((centred * centred).mean() + 1e-5) * weight + bias\n"
        "    return jax.lax.scan(row, 0.0, x)[1]\n"
        "ROWS = (Implementation('layer_norm', 'jax.scan', framework='jax', target='looping.py:f', "
        "compiled='jit'),)\n"
    )
    text, code = fusion.run(
        ["layer_norm[9x33-float32-forward]"],
        only=("jax.scan", "jax.jit-donate"),
        extra=["looping.py:ROWS"],
        threads=1,
        output=tmp_path / "kept",
    )
    assert code == 0, text
    found = {each.implementation: each for each in account.load(tmp_path / "kept")}
    looping, donating = found["jax.scan"], found["jax.jit-donate"]
    assert looping.kernels.eager is None and looping.kernels.compiled > 0
    assert "compiled again" in looping.unknown["kernels_eager"]
    assert looping.operations.compiled is not None and looping.artifacts
    # The copies of an input that is used up lie between the calls.
    assert donating.kernels.compiled == donating.operations.compiled


@pytest.fixture
def measured(tmp_path):
    """A run directory whose checks found torch.compile right and torch.compile-composed wrong."""
    suite = suites.get("smoke")
    selection = Selection(cases=(CASE,), only=("torch.compile", "torch.compile-composed"), null=True)
    settings = planning.settings_for(suite, device="cpu", threads=1)
    planned = planning.make(suite, implementations.table(), selection, settings)
    directory = RunDirectory.create(planned, tmp_path / "run")
    rows = {
        row.name: {
            "status": "ran",
            "errors": {"output": 1.0 if row.name == "torch.compile-composed" else 0.0},
        }
        for row in planned.implementations
    }
    directory.save_check("torch", Case.from_group(CASE), {"description": {}, "rows": rows})
    return directory


def test_of_a_run_only_what_it_measured(measured, monkeypatch):
    asked = []

    def make(work, table, settings, folder, progress):
        asked.extend((case.group, [row.name for row in rows]) for case, rows in work)
        assert settings.threads == 1
        assert folder == measured.path
        return []

    monkeypatch.setattr(fusion, "_make", make)
    text, _ = fusion.run([], of_run=measured.path)
    assert asked == [(CASE, ["torch.compile"])]
    assert f"fuseproof report {measured.path}" in text
    with pytest.raises(UserError, match="the run has no case"):
        fusion.run(["matmul[8x8x8-float32-forward]"], of_run=measured.path)
    with pytest.raises(UserError, match="takes its implementations from the run"):
        fusion.run([], of_run=measured.path, output=measured.path)
    with measured.locked(), pytest.raises(UserError, match="being measured"):
        fusion.run([], of_run=measured.path)
    plan_file = measured.path / "plan.json"
    plan_file.write_text(plan_file.read_text().replace('"python": "3', '"python": "2'))
    with pytest.raises(UserError, match="cannot be accounted for here: python changed"):
        fusion.run([], of_run=measured.path)
    plan_file.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        fusion.run([], of_run=measured.path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"schema": 99, "accounts": []}',
        '{"schema": 1, "accounts": [{"case": 1}]}',
        '{"schema": 1}',
    ],
)
def test_a_damaged_account_is_one_clear_line(tmp_path, text):
    (tmp_path / account.FILE).write_text(text)
    with pytest.raises(UserError, match=r"fusion\.json (is damaged|has schema)") as caught:
        account.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_account_is_none(tmp_path):
    assert account.load(tmp_path) == ()
    assert account.load(tmp_path / "run.json") == ()
