"""Accounts of real compilers on the CPU, and the file that keeps them."""

import importlib.util
import json

import pytest

from fuseproof import cli
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.fusion import account
from fuseproof.fusion.account import Account, Pair

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
        names = "torch.compile-composed,jax.jit,tf.function,tf.xla,jax.mine,tf.mine"
        mine = ["--only", names, "--implementations", "mine.py:IMPLEMENTATIONS"]
        assert cli.main(["fusion", CASE, *mine, "--threads", "1", "-o", "kept"]) == 0
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


def test_a_peak_below_the_results_is_unknown():
    forward, both = (Case.from_group(f"layer_norm[4x8-float32-{p}]") for p in ("forward", "forward_backward"))
    assert forward.reason_against_peak(4 * 32) is None
    assert "is less than the results, 128" in forward.reason_against_peak(4 * 32 - 1)
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


def test_a_function_that_fails_is_a_failure_with_its_reason(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jax", reason="pip install 'fuseproof[jax]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(
        "from fuseproof import Implementation\n"
        "def f(x, weight, bias): raise ValueError('wants other shapes')\n"
        "ROW = Implementation('layer_norm', 'jax.broken', framework='jax', target='broken.py:f', "
        "compiled='jit')\n"
    )
    broken = ["--only", "jax.broken", "--implementations", "broken.py:ROW"]
    assert cli.main(["fusion", CASE, *broken, "-o", "kept", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["accounts"]
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
    mine = ["--only", "jax.scan,jax.jit-donate", "--implementations", "looping.py:ROWS"]
    arguments = ["fusion", "layer_norm[9x33-float32-forward]", *mine, "--threads", "1", "-o", "kept"]
    assert cli.main(arguments) == 0
    found = {each.implementation: each for each in account.load(tmp_path / "kept")}
    looping, donating = found["jax.scan"], found["jax.jit-donate"]
    assert looping.kernels.eager is None and looping.kernels.compiled > 0
    assert "compiled again" in looping.unknown["kernels_eager"]
    assert looping.operations.compiled is not None and looping.artifacts
    # The copies of an input that is used up lie between the calls.
    assert donating.kernels.compiled == donating.operations.compiled


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
    with pytest.raises(UserError, match=r"fusion\.json is (damaged|not JSON)") as caught:
        account.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_account_is_none(tmp_path):
    assert account.load(tmp_path) == ()
    assert account.load(tmp_path / "run.json") == ()
