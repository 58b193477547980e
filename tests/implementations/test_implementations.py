import ast
import importlib.util
import sys
from pathlib import Path

import pytest

import fuseproof
from fuseproof import implementations
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation, loading
from fuseproof.implementations.builtin import PEERS
from fuseproof.workloads.operators import OPERATORS, PASSES


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    """Implementations may come from the pyproject.toml and the modules of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


LINE = 'Implementation("layer_norm", "{name}", framework="torch", target="mine.py:f")'
ONE = LINE.replace("{name}", "one")
FILE = f"from fuseproof import Implementation\nMINE = [{LINE}]\nONE = {ONE}\n"


def write(path, name="mine"):
    path.write_text(FILE.format(name=name))
    return path


# What some operators lack of what others have, by how its names begin.
LACKING = {
    "rms_norm": (
        "pallas",
        "jax.eager-composed",
        "jax.jit-composed",
        "tf.eager-c",
        "tf.function-c",
        "tf.xla-c",
    ),
    "softmax": ("pallas",),
    "cross_entropy": ("pallas",),
    "rotary": (
        *("pallas", "keras", "jax.eager-composed", "jax.jit-composed"),
        *("tf.eager-c", "tf.function-c", "tf.xla-c"),
    ),
    "swiglu": ("pallas",),
    "embedding": ("pallas", "triton", "torch.eager-inplace", "jax.eager-composed", "jax.jit-composed"),
}


def test_every_operator_has_every_implementation():
    for operator in OPERATORS:
        named = {each.name: each for each in IMPLEMENTATIONS if each.workload == operator}
        sources = ("", "-composed")
        modes = ("", "-dynamic", "-reduce-overhead", "-max-autotune", "-max-autotune-no-cudagraphs")
        peers = {peer.name for peer in PEERS if peer.workload == operator}
        everything = {
            *("pallas", "triton"),
            *(f"torch.compile{mode}{source}" for mode in modes for source in ("", "-composed")),
            *(f"jax.{mode}{source}" for mode in ("eager", "jit") for source in sources),
            *(f"tf.{mode}{source}" for mode in ("eager", "function", "xla") for source in sources),
            "torch.eager", "torch.eager-composed", "torch.eager-inplace", "jax.jit-donate",
            "keras.eager", "keras.function", "keras.xla",
        }  # fmt: skip
        lacking = {name for name in everything if name.startswith(LACKING.get(operator, ()))}
        assert set(named) == (everything - lacking) | peers
        for implementation in named.values():
            assert implementation.baseline in named
            assert set(implementation.passes) <= set(PASSES)
            assert named[implementation.baseline].framework == implementation.framework
            module, _, function = implementation.target.partition(":")
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


def test_an_implementation_that_consumes_names_the_inputs():
    fields = {"framework": "jax", "target": "m:f"}
    assert Implementation("matmul", "x", consumes="residual", **fields).consumes == ("residual",)
    assert Implementation("matmul", "x", consumes=["a", "b"], **fields).consumes == ("a", "b")


@pytest.mark.parametrize("mode", implementations.CUDA_GRAPHS)
def test_cuda_graphs_are_not_silently_left_out(mode):
    graphs = Implementation("matmul", "x", framework="torch", target="m:f", compiled=f"{mode}+dynamic")
    assert graphs.reason_not_on("cuda") is None
    assert graphs.reason_not_on("cpu").startswith("CUDA graphs need cuda; without them")


def test_max_autotune_is_left_out_where_there_is_no_product_to_tune():
    mode = "max-autotune-no-cudagraphs"
    for suffix in ("", "-composed"):
        found = {i.workload: i for i in IMPLEMENTATIONS if i.name == f"torch.compile-{mode}{suffix}"}
        assert {operator for operator in found if found[operator].reason_not_on("cpu") is None} == {
            "attention",
            "matmul",
            "swiglu",
        }
        reason = found["layer_norm"].reason_not_on("cpu")
        assert reason == f"layer_norm has no product to tune; on cpu {mode!r} is 'default'"
        assert all(each.reason_not_on("cuda") is None for each in found.values())


def test_a_target_in_a_file_that_does_not_exist_is_refused_before_any_worker_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from fuseproof import Implementation\n"
        "MINE = [Implementation('matmul', 'x', framework='jax', target='absent.py:f')]\n"
    )
    with pytest.raises(UserError, match=r"matmul x: no such file: absent\.py, its target"):
        implementations.table(["mine.py:MINE"])


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
        ({"compiled": 3}, "matmul x: compiled must be a string, not 3"),
        ({"target": None}, "matmul x: target must be a string, not None"),
        ({"consumes": 1}, "matmul x: consumes must be a string, not 1"),
        ({"dtypes": ("float32", 16)}, "matmul x: dtypes must be a string, not 16"),
        (
            {"compiled": "xla", "framework": "jax"},
            "matmul x: jax has no compile mode 'xla'; there are jit, export, and None",
        ),
        ({"compiled": "default+static"}, "torch has no compile mode 'default.static'"),
        ({"compiled": "kernel+dynamic"}, "torch has no compile mode 'kernel.dynamic'"),
        ({"compiled": "jit+dynamic", "framework": "jax"}, "jax has no compile mode 'jit.dynamic'"),
        ({"compiled": ""}, "torch has no compile mode ''"),
        ({"requires": "a.b"}, "matmul x: requires 'a.b' is no name of a top-level package"),
    ],
    ids=str,
)
def test_impossible_implementations_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Implementation("matmul", "x", **({"framework": "torch", "target": "m:f"} | fields))


def test_implementations_come_from_a_file_or_a_module_of_this_folder(tmp_path):
    write(tmp_path / "mine.py")
    for reference in ("mine.py:MINE", str(tmp_path / "mine.py:MINE"), "mine:MINE"):
        table = implementations.table([reference])
        assert table[: len(IMPLEMENTATIONS)] == IMPLEMENTATIONS
        assert [added.name for added in table[len(IMPLEMENTATIONS) :]] == ["mine"]
    assert implementations.table(["mine.py:ONE"])[-1].name == "one"


def test_implementations_come_from_pyproject(tmp_path):
    write(tmp_path / "mine.py")
    (tmp_path / "pyproject.toml").write_text('[tool.fuseproof]\nimplementations = ["mine.py:MINE"]\n')
    assert implementations.table()[-1].name == "mine"


def test_implementations_come_from_installed_packages(tmp_path, monkeypatch):
    write(tmp_path / "plugged_in.py", name="plugged")
    (tmp_path / "mine.py").touch()  # its target
    (tmp_path / "plugged-1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: plugged\nVersion: 1\n"
    (tmp_path / "plugged-1.dist-info" / "METADATA").write_text(metadata)
    (tmp_path / "plugged-1.dist-info" / "entry_points.txt").write_text(
        "[fuseproof.implementations]\nmine = plugged_in:MINE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert implementations.table()[-1].name == "plugged"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_colon", "is not module:attribute"),
        (":MINE", "is not module:attribute"),
        ("absent_module:MINE", "cannot import 'absent_module'"),
        ("absent.py:MINE", "no such file: absent.py"),
        ("mine.py:COLS", "no attribute 'COLS'"),
        ("mine.py:Implementation", "is not a tuple"),
        ("broken.py:MINE", "broken.py' of 'broken.py:MINE' failed on import: RuntimeError: no luck"),
        ("invalid.py:MINE", "failed on import: SyntaxError"),
        ("clash.py:MINE", r"two implementations of layer_norm are named 'torch\.eager'"),
        ("foreign.py:MINE", "unknown workload 'convolution'"),
        ("baseless.py:MINE", r"no implementation of layer_norm is named .torch\.egaer., its baseline"),
    ],
)
def test_references_that_do_not_resolve_are_one_clear_line(tmp_path, reference, message):
    write(tmp_path / "mine.py")
    write(tmp_path / "clash.py", name="torch.eager")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck\\nat all')")
    (tmp_path / "invalid.py").write_text("def (:")
    (tmp_path / "foreign.py").write_text(FILE.format(name="x").replace("layer_norm", "convolution"))
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
        '[tool.fuseproof]\nimplementations = "mine:MINE"\n',
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
    one = implementations.table(["mine.py:ONE"])[-1]
    assert one.target.endswith("mine.py:f")
    monkeypatch.chdir("/")
    assert implementations.resolve_function(one.target)() == 7


# Every target of the built-in table when `plan.json` first stored them, by module.
STORED_TARGETS = {
    "fuseproof.fusion.helion_ops": "layer_norm rms_norm",
    "fuseproof.fusion.jax_ops": (
        "attention attention_composed layer_norm layer_norm_composed matmul matmul_composed rms_norm"
    ),
    "fuseproof.fusion.keras_ops": "attention layer_norm matmul rms_norm",
    "fuseproof.fusion.peers": (
        "attention_cudnn attention_efficient attention_flash attention_flash_attn attention_xformers "
        "layer_norm_liger layer_norm_quack rms_norm_liger rms_norm_quack"
    ),
    "fuseproof.fusion.tensorflow_ops": (
        "attention attention_composed layer_norm layer_norm_composed matmul matmul_composed rms_norm"
    ),
    "fuseproof.fusion.torch_ops": (
        "attention attention_composed attention_inplace layer_norm layer_norm_composed layer_norm_inplace "
        "matmul matmul_composed matmul_inplace rms_norm rms_norm_composed rms_norm_inplace"
    ),
    "fuseproof.fusion.triton_ops": "matmul",
    "fuseproof.kernels.pallas.attention": "attention",
    "fuseproof.kernels.pallas.layer_norm": "layer_norm",
    "fuseproof.kernels.pallas.matmul": "matmul",
    "fuseproof.kernels.triton.attention": "attention",
    "fuseproof.kernels.triton.layer_norm": "layer_norm",
    "fuseproof.kernels.triton.rms_norm": "rms_norm",
}


def names_of(module):
    """What the module's own text defines or imports: a test process imports no framework."""
    place = Path(fuseproof.__file__).parents[1].joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


@pytest.mark.parametrize("module", STORED_TARGETS)
def test_targets_in_old_run_directories_are_still_found(module):
    assert set(STORED_TARGETS[module].split()) <= set(names_of(loading.current_module(module)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda i: f"{i.workload}-{i.name}")
def test_built_in_targets_are_found_where_they_are_named(implementation):
    module, _, function = implementation.target.partition(":")
    assert loading.current_module(module) == module
    assert function in set(names_of(module))
