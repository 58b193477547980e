import ast
import importlib.util
import sys
from pathlib import Path

import pytest

import fuseproof
from fuseproof import implementations
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.implementations.builtin import PEERS
from fuseproof.workloads.operators import OPERATORS, PASSES


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    """Rows may come from the pyproject.toml and the modules of the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


ROW = 'Implementation("layer_norm", "{name}", framework="torch", target="mine.py:f")'
ONE = ROW.replace("{name}", "one")
FILE = f"from fuseproof import Implementation\nROWS = [{ROW}]\nONE = {ONE}\n"


def write(path, name="mine"):
    path.write_text(FILE.format(name=name))
    return path


def test_every_operator_has_every_implementation():
    for operator in OPERATORS:
        rows = {row.name: row for row in IMPLEMENTATIONS if row.operator == operator}
        kernels = {"pallas", "triton"} if operator != "rms_norm" else {"triton"}
        sources = ("", "-composed") if operator != "rms_norm" else ("",)
        modes = ("", "-dynamic", "-reduce-overhead", "-max-autotune", "-max-autotune-no-cudagraphs")
        peers = {row.name for row in PEERS if row.operator == operator}
        assert set(rows) == kernels | peers | {
            *(f"torch.compile{mode}{source}" for mode in modes for source in ("", "-composed")),
            *(f"jax.{mode}{source}" for mode in ("eager", "jit") for source in sources),
            *(f"tf.{mode}{source}" for mode in ("eager", "function", "xla") for source in sources),
            "torch.eager", "torch.eager-composed", "torch.eager-inplace", "jax.jit-donate",
            "keras.eager", "keras.function", "keras.xla",
        }  # fmt: skip
        for row in rows.values():
            assert row.baseline in rows
            assert set(row.passes) <= set(PASSES)
            assert rows[row.baseline].framework == row.framework
            module, _, function = row.target.partition(":")
            assert importlib.util.find_spec(module) is not None, "found without importing a framework"
            assert function.startswith(operator)


def test_operators_have_the_same_names_in_every_framework():
    """Read as text: a test process imports no framework."""
    names = {}
    for module in ("torch", "jax", "tensorflow"):
        body = ast.parse(Path(fuseproof.__file__).parent.joinpath(f"fusion/ops/{module}.py").read_text()).body
        defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        defined |= {node.targets[0].id for node in body if isinstance(node, ast.Assign)}
        names[module] = {
            name for name in defined if not name.startswith("_") and name.partition("_inplace")[1] == ""
        } - {"Tensor"}
    expected = {f"{operator}{source}" for operator in OPERATORS for source in ("", "_composed")}
    assert names == dict.fromkeys(names, expected)


def test_a_row_that_consumes_says_what():
    fields = {"framework": "jax", "target": "m:f"}
    assert Implementation("matmul", "x", consumes="residual", **fields).consumes == ("residual",)
    assert Implementation("matmul", "x", consumes=["a", "b"], **fields).consumes == ("a", "b")


@pytest.mark.parametrize("mode", implementations.CUDA_GRAPHS)
def test_cuda_graphs_are_not_silently_left_out(mode):
    row = Implementation("matmul", "x", framework="torch", target="m:f", compiled=f"{mode}+dynamic")
    assert row.reason_not_on("cuda") is None
    assert row.reason_not_on("cpu").startswith("CUDA graphs need cuda; without them")


def test_tuning_products_is_nothing_new_where_there_is_none():
    mode = "max-autotune-no-cudagraphs"
    for suffix in ("", "-composed"):
        rows = {r.operator: r for r in IMPLEMENTATIONS if r.name == f"torch.compile-{mode}{suffix}"}
        assert {name for name, row in rows.items() if row.reason_not_on("cpu") is None} == {
            "attention",
            "matmul",
        }
        reason = rows["layer_norm"].reason_not_on("cpu")
        assert reason == f"layer_norm has no product to tune; on cpu {mode!r} is 'default'"
        assert all(row.reason_not_on("cuda") is None for row in rows.values())


def test_a_target_in_a_file_that_does_not_exist_is_told_before_any_worker_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.py").write_text(
        "from fuseproof import Implementation\n"
        "ROWS = [Implementation('matmul', 'x', framework='jax', target='absent.py:f')]\n"
    )
    with pytest.raises(UserError, match=r"matmul x: no such file: absent\.py, its target"):
        implementations.table(["rows.py:ROWS"])


def test_the_baseline_is_the_frameworks_library_call_unless_given():
    assert Implementation("matmul", "x", framework="jax", target="m:f").baseline == "jax.eager"
    assert Implementation("matmul", "x", framework="jax", target="m:f", baseline="y").baseline == "y"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"framework": "mxnet"}, "unknown framework 'mxnet'; there are torch, jax, tensorflow"),
        ({"target": "no_colon"}, "is not module:function"),
        (
            {"passes": ("forwards",)},
            "matmul x: unknown passes 'forwards'; there are forward, forward_backward",
        ),
        ({"passes": "backward"}, "unknown passes 'backward'"),
        ({"devices": ("gpu",)}, "unknown devices 'gpu'; there are cpu, cuda, tpu"),
        ({"interpreted": ("cuda",)}, "unknown interpreted 'cuda'"),
        ({"layout": "sbhd"}, "unknown layout 'sbhd'; there are bhsd, bshd"),
        ({"compiled": 3}, "matmul x: compiled holds 3, which is no text"),
        ({"target": None}, "matmul x: target holds None, which is no text"),
        ({"consumes": 1}, "matmul x: consumes holds 1, which is no text"),
        ({"dtypes": ("float32", 16)}, "matmul x: dtypes holds 16, which is no text"),
        (
            {"compiled": "xla", "framework": "jax"},
            "matmul x: jax has no compile mode 'xla'; there are jit, and None",
        ),
        ({"compiled": "default+static"}, "torch has no compile mode 'default.static'"),
        ({"compiled": "kernel+dynamic"}, "torch has no compile mode 'kernel.dynamic'"),
        ({"compiled": "jit+dynamic", "framework": "jax"}, "jax has no compile mode 'jit.dynamic'"),
        ({"compiled": ""}, "torch has no compile mode ''"),
    ],
    ids=str,
)
def test_impossible_rows_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Implementation("matmul", "x", **({"framework": "torch", "target": "m:f"} | fields))


def test_rows_come_from_a_file_or_a_module_of_this_folder(tmp_path):
    write(tmp_path / "mine.py")
    for reference in ("mine.py:ROWS", str(tmp_path / "mine.py:ROWS"), "mine:ROWS"):
        rows = implementations.table([reference])
        assert rows[: len(IMPLEMENTATIONS)] == IMPLEMENTATIONS
        assert [row.name for row in rows[len(IMPLEMENTATIONS) :]] == ["mine"]
    assert implementations.table(["mine.py:ONE"])[-1].name == "one"


def test_rows_come_from_pyproject(tmp_path):
    write(tmp_path / "mine.py")
    (tmp_path / "pyproject.toml").write_text('[tool.fuseproof]\nimplementations = ["mine.py:ROWS"]\n')
    assert implementations.table()[-1].name == "mine"


def test_rows_come_from_installed_packages(tmp_path, monkeypatch):
    write(tmp_path / "plugged_in.py", name="plugged")
    (tmp_path / "mine.py").touch()  # its target
    (tmp_path / "plugged-1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: plugged\nVersion: 1\n"
    (tmp_path / "plugged-1.dist-info" / "METADATA").write_text(metadata)
    (tmp_path / "plugged-1.dist-info" / "entry_points.txt").write_text(
        "[fuseproof.implementations]\nmine = plugged_in:ROWS\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert implementations.table()[-1].name == "plugged"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_colon", "is not module:attribute"),
        (":ROWS", "is not module:attribute"),
        ("absent_module:ROWS", "cannot import 'absent_module'"),
        ("absent.py:ROWS", "no such file: absent.py"),
        ("mine.py:COLS", "no attribute 'COLS'"),
        ("mine.py:Implementation", "is not a tuple"),
        ("broken.py:ROWS", "broken.py' of 'broken.py:ROWS' failed on import: RuntimeError: no luck"),
        ("invalid.py:ROWS", "failed on import: SyntaxError"),
        ("clash.py:ROWS", r"two implementations of layer_norm are named 'torch\.eager'"),
        ("foreign.py:ROWS", "unknown operator 'softmax'"),
        ("baseless.py:ROWS", r"no implementation of layer_norm is named .torch\.egaer., its baseline"),
    ],
)
def test_references_that_do_not_resolve_are_one_clear_line(tmp_path, reference, message):
    write(tmp_path / "mine.py")
    write(tmp_path / "clash.py", name="torch.eager")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck\\nat all')")
    (tmp_path / "invalid.py").write_text("def (:")
    (tmp_path / "foreign.py").write_text(FILE.format(name="x").replace("layer_norm", "softmax"))
    misspelt = FILE.format(name="x").replace("target=", 'baseline="torch.egaer", target=')
    (tmp_path / "baseless.py").write_text(misspelt)
    for _ in range(2):  # a module that failed once is not taken for loaded the second time
        with pytest.raises(UserError, match=message) as caught:
            implementations.table([reference])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[tool.fuseproof\n",
        '[tool.fuseproof]\nimplementations = "mine:ROWS"\n',
        "[tool.fuseproof]\nimplementations = [3]\n",
    ],
    ids=["not TOML", "not a list", "not names"],
)
def test_a_wrong_pyproject_is_one_clear_line(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UserError, match=r"pyproject\.toml") as caught:
        implementations.table()
    assert "\n" not in str(caught.value)


def test_a_target_must_be_callable(tmp_path):
    (tmp_path / "target.py").write_text("number = 3\ndef function(): return 7\n")
    assert implementations.resolve_function("target.py:function")() == 7
    with pytest.raises(UserError, match="not callable"):
        implementations.resolve_function("target.py:number")


def test_a_target_in_a_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE.format(name="x") + "def f(): return 7\n")
    [row] = [row for row in implementations.table(["mine.py:ONE"]) if row.target.endswith("mine.py:f")]
    monkeypatch.chdir("/")
    assert implementations.resolve_function(row.target)() == 7
