import dataclasses
import importlib.util
import json
from types import SimpleNamespace

import pytest

from fuseproof import suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.implementations.builtin import PEERS
from fuseproof.measure import describing, planning
from fuseproof.measure.opening import source_of
from fuseproof.measure.planning import Selection
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.records import NULL_SUFFIX
from fuseproof.workloads.blocks import NetworkBlock
from fuseproof.workloads.described import Described
from fuseproof.workloads.modules import State
from fuseproof.workloads.operators import OPERATORS
from fuseproof.workloads.tensor import Tensor

SMOKE = dataclasses.replace(suites.get("smoke"), only=())
GROUP = "layer_norm[3x5-float32-forward]"


@pytest.fixture(autouse=True)
def all_frameworks(monkeypatch):
    """Plans do not depend on what is installed on the machine of the test, and import none of it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def make(suite=SMOKE, table=IMPLEMENTATIONS, settings=None, **selection):
    return planning.make(suite, table, Selection(**selection), settings or Settings(), command=["fuseproof"])


def names(planned):
    return {each.name for each in planned.implementations}


def test_a_plan_is_read_as_it_was_written():
    planned = make(null=True, settings=Settings(threads=3, seed=9))
    text = json.dumps(planned.to_json(), allow_nan=False)
    assert Plan.from_json(json.loads(text)) == planned


def test_a_whole_suite_is_all_its_cases_and_implementations():
    planned = make()
    assert planned.cases == SMOKE.cases
    operators = {case.workload.name for case in SMOKE.cases}
    assert planned.implementations == tuple(each for each in IMPLEMENTATIONS if each.workload in operators)
    assert planned.frameworks == ("torch", "jax", "tensorflow")
    attention = next(case for case in planned.cases if case.workload.name == "attention")
    assert {each.framework for each in planned.implementations_of(attention)} == {
        "torch",
        "jax",
        "tensorflow",
    }
    assert {each.name for each in planned.implementations_of(attention, "jax")} == {
        "jax.eager", "jax.jit", "jax.jit-donate", "jax.eager-composed", "jax.jit-composed",
    }  # fmt: skip


def test_a_common_baseline_is_measured_with_what_is_compared_with_it():
    planned = make(cases=(GROUP,), only=("jax.jit",), settings=Settings(baseline="torch.eager"))
    assert names(planned) == {"jax.jit", "jax.eager", "torch.eager"}, "errors have their limit from one's own"
    assert planned.added == {("layer_norm", "jax.eager"), ("layer_norm", "torch.eager")}
    assert Plan.from_json(planned.to_json()).settings.baseline == "torch.eager"
    with pytest.raises(UserError, match=r"unknown baseline 'torch\.eagre'; there are .*, own"):
        make(cases=(GROUP,), settings=Settings(baseline="torch.eagre"))


def test_what_cannot_run_is_skipped_with_the_reason():
    planned = make()
    assert {(f.kind, f.stage) for f in planned.skipped} == {("skipped", "plan")}
    reasons = {f.implementation: f.message for f in planned.skipped}
    graphs = {name for name in reasons if "reduce-overhead" in name or "max-autotune" in name}
    operators = {case.workload.name for case in planned.cases}
    peers = {each.name for each in PEERS if each.workload in operators}
    assert set(reasons) == {"triton", "pallas"} | graphs | peers
    assert graphs == {
        f"torch.compile-{mode}{source}"
        for mode in ("reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
        for source in ("", "-composed")
    }
    assert {failure.group for failure in planned.skipped} == {case.group for case in planned.cases}
    assert reasons["triton"] == reasons["torch.sdpa-cudnn"] == "needs cuda; this run is on cpu"
    assert reasons["pallas"] == "interpreted on the CPU: correctness only, never timed"
    skipped = {(failure.group, failure.implementation) for failure in planned.skipped}
    planned_for = {
        (case.group, each.name) for case in planned.cases for each in planned.implementations_of(case)
    }
    assert not skipped & planned_for


def test_a_missing_framework_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else object())
    planned = make()
    messages = {f.implementation: f.message for f in planned.skipped}
    assert "pip install 'fuseproof[jax]'" in messages["jax.jit"]
    assert planned.frameworks == ("torch", "tensorflow")


def test_a_pass_an_implementation_lacks_is_skipped():
    case = "layer_norm[8x8-float32-forward_backward]"
    planned = make(cases=(case,), settings=Settings(device="cuda"))
    assert {f.group for f in planned.skipped} == {case}
    reasons = {f.implementation: f.message for f in planned.skipped}
    assert set(reasons) == {"pallas", "torch.eager-inplace", "quack", "helion"}
    assert "forward_backward" in reasons["torch.eager-inplace"]


def test_nothing_to_measure_says_why(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="nothing to measure: torch is not installed"):
        make()


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (("torch.eager",), {"torch.eager"}),
        (("torch.compile",), {"torch.compile", "torch.eager"}),
        # its baseline's error limit needs the baseline of that one
        (
            ("torch.compile-composed",),
            {"torch.compile-composed", "torch.eager-composed", "torch.eager"},
        ),
        (("jax.jit", "tf.xla"), {"jax.jit", "jax.eager", "tf.xla", "tf.eager"}),
    ],
    ids=lambda names: ",".join(sorted(names)),
)
def test_only_brings_the_baselines_along(only, expected):
    assert names(make(only=only)) == expected


def test_a_suite_may_take_fewer_implementations_unless_the_user_says_which():
    few = dataclasses.replace(SMOKE, only=("torch.compile-composed", "tf.xla"))
    with_baselines = {"torch.compile-composed", "torch.eager-composed", "torch.eager", "tf.xla", "tf.eager"}
    assert names(make(few)) == with_baselines
    assert names(make(few, only=("jax.jit",))) == {"jax.jit", "jax.eager"}
    assert make(few, only=(planning.ALL,)).implementations == make(SMOKE).implementations
    mine = Implementation("matmul", "mine", framework="jax", target="m:f")
    assert names(make(few, table=(*IMPLEMENTATIONS, mine))) == with_baselines | {"mine", "jax.eager"}


def test_the_demo_keeps_its_implementations():
    assert names(make(suites.get("demo"))) == {
        "torch.eager", "torch.compile", "torch.eager-composed", "torch.compile-composed",
        "jax.eager", "jax.jit", "tf.eager", "tf.function", "tf.xla", "triton", "pallas",
    }  # fmt: skip


def test_a_null_twin_differs_in_name_and_baseline_alone():
    planned = make(only=("torch.compile",), null=True)
    found = {(each.workload, each.name): each for each in planned.implementations}
    assert len(found) == 2 * 2 * len({case.workload.name for case in SMOKE.cases})
    for each in [each for each in found.values() if not each.name.endswith(NULL_SUFFIX)]:
        twin = found[each.workload, each.name + NULL_SUFFIX]
        assert twin.baseline == each.name
        assert dataclasses.replace(twin, name=each.name, baseline=each.baseline) == each


def test_filters_narrow_a_suite():
    models = suites.get("models")
    planned = make(models, operators=("matmul",), dtypes=("bfloat16",), passes=("forward",))
    assert len(planned.cases) == len(set(OPERATORS["matmul"].named_shapes.values()))
    assert {(c.workload.name, c.dtype, c.pass_, c.cache) for c in planned.cases} == {
        ("matmul", "bfloat16", "forward", "warm")
    }
    both = make(operators=("matmul",), caches=("warm", "cold"))
    assert [case.cache for case in both.cases] == ["warm", "cold"]


def test_cases_given_by_name_stand_for_the_suite_and_count_once():
    group = "layer_norm[3x5-float32-forward-cold]"
    planned = make(cases=(group, "matmul[2x3x4-bfloat16-forward]", group))
    assert [case.group for case in planned.cases] == [group, "matmul[2x3x4-bfloat16-forward]"]
    assert {each.workload for each in planned.implementations} == {"layer_norm", "matmul"}
    groups = tuple(case.group for case in planned.cases)
    assert make(cases=groups, operators=("matmul",)).cases == planned.cases[1:], "other choices still count"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"only": ("torch.egaer",)}, r"unknown implementation 'torch\.egaer'"),
        ({"operators": ("convolution",)}, "unknown workload 'convolution'; there are attention"),
        ({"dtypes": ("float64",)}, "unknown dtype 'float64'"),
        ({"passes": ("backward",)}, "unknown pass 'backward'"),
        ({"caches": ("hot",)}, "unknown cache regime 'hot'"),
        ({"cases": ("layer_norm",)}, "is not a case"),
        ({"dtypes": ("float16",)}, "no case of the suite 'smoke' matches"),
        ({"cases": (GROUP,), "dtypes": ("float16",)}, "no case that --case names matches"),
    ],
    ids=str,
)
def test_unknown_names_are_refused(selection, message):
    with pytest.raises(UserError, match=message):
        make(**selection)


@pytest.fixture
def without_processes(monkeypatch):
    """Modules described without the framework of their reference, whose outputs nobody here asks for."""

    def describe(wanted):
        return [at(source_of(each.target, label), each) for each in wanted for label in each.labels]

    def at(module, wanted):
        initial = module.initial_parameters() if isinstance(module, NetworkBlock) else {}
        state = State.of(initial, {}, module.optimizer)
        return Described.describe(
            module,
            wanted.target,
            outputs={"output": Tensor(shape=(1,))},
            reference=wanted.reference.to_json(),
            reference_dtype="float64",
            state=state,
        )

    monkeypatch.setattr(describing, "describe", describe)


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("name", suites.names())
def test_suites_are_planned_whole(name):
    suite = suites.get(name)
    assert suite.name == name
    assert len(set(suite.groups)) == len(suite.groups) or name == "models"
    settings = Settings(device=suite.device or "cpu")
    planned = make(suite, settings=settings).cases
    assert tuple(case.group for case in planned) == tuple(dict.fromkeys(suite.groups))
    known = {name for each in IMPLEMENTATIONS for name in (each.name, f"{each.workload}:{each.name}")}
    assert set(suite.only) <= known
    assert 2 <= suite.blocks <= suite.max_blocks
    assert 2 <= suite.palindromes <= suite.max_palindromes


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_a_network_block_has_every_framework_s_implementations(scale):
    suite = suites.get("claims-blocks", scale)
    planned = make(suite, settings=planning.settings_for(suite, device=suite.device or "cpu", threads=1))
    for case in planned.cases:
        scanned = case.workload.name in ("lstm", "decode")
        absent = {"jax.eager"} if scanned or case.pass_ == "training_step" else set()
        own = {
            each.rpartition(":")[2]
            for each in suite.only
            if each.partition(":")[0] in (each, case.workload.name)
        }
        assert {each.name for each in planned.implementations_of(case)} == own - absent


@pytest.mark.usefixtures("without_processes")
def test_an_implementation_that_names_a_pass_of_modules_takes_no_other():
    groups = [f"mlp_block[2x7x16x24-float32-{pass_}]" for pass_ in ("inference", "training_step")]
    planned = make(cases=groups, only=("jax.eager", "jax.jit"))
    assert [each.message for each in planned.skipped] == ["has no training_step pass yet"]
    assert not Implementation("a", "b", framework="jax", target="m:f", passes=("inference",)).takes("forward")
    unnamed = Implementation("a", "b", framework="jax", target="m:f")
    assert unnamed.takes("forward") and unnamed.takes("training_step")


def test_an_unknown_suite_is_refused():
    with pytest.raises(
        UserError, match="unknown suite 'nightly'; there are claims-blocks, claims-models, demo"
    ):
        suites.get("nightly")


def test_implementations_of_other_operators_are_left_out():
    mine = Implementation("matmul", "mine", framework="torch", target="m:f")
    planned = make(table=(*IMPLEMENTATIONS, mine), operators=("layer_norm",))
    assert mine not in planned.implementations
    assert planned.cases == tuple(case for case in SMOKE.cases if case.workload.name == "layer_norm")
    assert isinstance(planned.cases[0], Case)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_dtype_an_implementation_does_not_take_is_skipped(device):
    tf32, float8 = "matmul[32x64x32-tf32-forward]", "matmul[32x64x32-float8_e4m3-forward]"
    planned = make(cases=(tf32, float8), settings=Settings(device=device))
    reasons = {(f.group, f.implementation): f.message for f in planned.skipped}
    assert reasons[float8, "tf.xla"] == "takes no float8_e4m3; only float32, float16, bfloat16, tf32"
    assert (float8, "torch.eager") not in reasons
    assert (float8, "jax.jit") not in reasons
    assert ((float8, "triton") in reasons) is (device == "cpu")
    if device == "cpu":
        assert "on a CPU it would be float32 again" in reasons[tf32, "torch.eager"]
    else:
        assert {name for group, name in reasons if group == tf32} == {"pallas"}


def test_a_peer_that_is_not_installed_comes_with_the_command(monkeypatch):
    absent = {"liger_kernel", "flash_attn"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())
    cases = ("rms_norm[8x8-bfloat16-forward]", "attention[b1_h2_s32_d64-bfloat16-forward]")
    reasons = {
        f.implementation: f.message for f in make(cases=cases, settings=Settings(device="cuda")).skipped
    }
    assert reasons["liger"] == "liger_kernel is not installed; pip install 'fuseproof[peers]'"
    assert reasons["flash-attn"].endswith("pip install flash-attn --no-build-isolation")
    assert not {"quack", "xformers", "torch.sdpa-cudnn"} & set(reasons)


def test_attention_in_tf32_has_no_hand_written_kernel():
    case = "attention[b1_h2_s32_d64-tf32-forward]"
    planned = make(cases=(case,), settings=Settings(device="cuda"))
    half_or_ieee = {"pallas", "triton", "torch.sdpa-cudnn", "torch.sdpa-flash", "flash-attn", "xformers"}
    assert {f.implementation for f in planned.skipped} == half_or_ieee


def test_baselines_that_nobody_asked_for_are_known_as_such():
    planned = make(only=("torch.compile-composed",), operators=("matmul",), null=True)
    assert {name for _, name in planned.added} == {
        "torch.eager", "torch.eager-null", "torch.eager-composed", "torch.eager-composed-null",
    }  # fmt: skip
    assert make(only=("torch.eager",)).added == frozenset()
    assert make(only=(planning.ALL,)).added == frozenset()


def test_what_was_asked_for_must_be_able_to_run_not_only_its_baseline(monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "liger_kernel" else object()
    )
    with pytest.raises(UserError, match=r"^nothing to measure: liger_kernel is not installed; pip install"):
        make(only=("liger",), cases=(GROUP,), settings=Settings(device="cuda"))


def test_tensors_that_no_memory_holds_are_refused_or_skipped(monkeypatch):
    class Memory:
        total = 4 * (3 * 5 + 5 + 5 + 3 * 5) - 1

    monkeypatch.setattr(planning.psutil, "virtual_memory", Memory)
    with pytest.raises(
        UserError, match=r"cannot be measured: its tensors take 160 B, this machine has 159 B"
    ):
        make(cases=(GROUP,))
    suite = dataclasses.replace(
        SMOKE, cases=(Case.from_group(GROUP), Case.from_group("matmul[1x1x1-float32-forward]"))
    )
    reasons = {failure.group: failure.message for failure in make(suite, only=("torch.eager",)).skipped}
    assert reasons == {GROUP: "its tensors take 160 B, this machine has 159 B; choose a smaller shape"}


def test_a_process_is_shared_only_if_asked_for():
    assert not Settings().share_process
    shared = planning.settings_for(suites.get("smoke"), device="cpu", threads=1, share_process=True)
    assert Plan.from_json(make(settings=shared).to_json()).settings.share_process


@pytest.mark.parametrize(
    "setting",
    [
        {"threads": 0}, {"threads": "1"}, {"seed": -1}, {"blocks": 3, "max_blocks": 2}, {"palindromes": 0},
        {"leg_seconds": 0.0}, {"leg_seconds": float("inf")}, {"precision": float("nan")}, {"profile": 1},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_are_not_read(setting):
    with pytest.raises(ValueError):
        Settings.from_json({**dataclasses.asdict(Settings()), **setting})


def test_processes_that_do_not_fit_in_memory_together_are_refused(monkeypatch):
    """Each implementation from outside has one, and all of a case are alive at once."""
    rows = tuple(
        Implementation("layer_norm", f"torch.mine-{index}", framework="torch", target="mine.py:f")
        for index in range(30)
    )
    table = (*IMPLEMENTATIONS, *rows)
    selection = planning.Selection(
        operators=("layer_norm",), only=("torch.eager", *(each.name for each in rows))
    )
    memory = SimpleNamespace(total=64 << 30, available=8 << 30)
    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: memory)
    settings = planning.settings_for(suites.get("smoke"), device="cpu", threads=1)
    with pytest.raises(
        UserError, match=r"30 implementations from outside .* 8.00 GiB are free.*--share-process"
    ):
        planning.make(suites.get("smoke"), table, selection, settings)
    shared = dataclasses.replace(settings, share_process=True)
    assert planning.make(suites.get("smoke"), table, selection, shared).cases
