"""The HLO reader on modules of CPUs and TPUs, and on other text.

hlo/ holds what XLA printed: JAX 0.10.2 on a CPU (layer norm; a loop), libtpu 0.0.42.1 for v5p (attention) and
for 4 chips of v5e (matmul, forward_backward).
"""

from pathlib import Path

import pytest

from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo

SAMPLES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "hlo").glob("*.txt"))}

# As TensorFlow prints it: operands with their shapes, metadata with commas and braces in quotes.
VERBOSE = """\
HloModule a_inference_f__24__.3, entry_computation_layout={(f32[4,<=8]{1,0})->(f32[4], s4[3])}

%sum.1 (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %add.1 = f32[] add(f32[] %x.1, f32[] %y.1), metadata={op_name="a, {b} (c" source_line=3}
}

ENTRY %main.3 (arg0.1: f32[4,<=8]) -> (f32[4], s4[3]) {
  %arg0.1 = f32[4,<=8]{1,0} parameter(0), parameter_replication={false}
  %zero = f32[] constant(0)
  %reduce.1 = f32[4]{0} reduce(f32[4,<=8]{1,0} %arg0.1, f32[] %zero), dimensions={1}, to_apply=%sum.1
  %c = s4[3]{0:T(8,128)S(5)} constant({1, 2, 3})
  ROOT %t = (f32[4]{0}, /*index=1*/s4[3]{0}) tuple(f32[4]{0} %reduce.1, /*index=1*/s4[3]{0} %c)
}
"""


@pytest.fixture(params=SAMPLES)
def sample(request):
    return SAMPLES[request.param]


def test_a_cpu_module():
    module = hlo.parse(SAMPLES["cpu_layer_norm"])
    assert (module.name, module.is_scheduled, module.entry.name) == ("jit_layer_norm", True, "main.3")
    assert [f.name for f in module.fusions] == [
        "ynn_fusion.1",
        "broadcast_subtract_fusion",
        "ynn_fusion",
        "add_rsqrt_fusion",
        "broadcast_add_fusion",
    ]
    assert module.launched == module.fusions
    last = module.fusions[-1]
    assert (last.kind, last.is_root, last.op_name) == ("kLoop", True, "jit(layer_norm)/add")
    assert [i.opcode for i in module.members(last)].count("broadcast") == 5
    assert last.operands == ("bias.1", "weight.1", "add_rsqrt_fusion", "x.1", "ynn_fusion.1")
    [array] = last.arrays
    assert (array.dtype, array.dimensions, array.memory_space, array.bytes) == (
        "f32",
        (64, 128),
        0,
        64 * 128 * 4,
    )
    assert module.opcode_counts["fusion"] == 5
    assert module.opcode_counts["rsqrt"] == 1


def test_a_loop_counts_its_body_once_and_not_itself():
    module = hlo.parse(SAMPLES["cpu_loop"])
    assert [i.name for i in module.launched] == [
        *("copy.6", "copy.7", "wrapped_compare", "wrapped_sine", "wrapped_add", "ynn_fusion", "copy.5")
    ]


def test_a_tpu_module():
    module = hlo.parse(SAMPLES["tpu_v5p_attention"])
    assert [(f.name, f.estimated_cycles) for f in module.fusions] == [
        ("convolution_multiply_fusion", 1439104),
        ("fusion.10", 3476373),
        ("fusion.7", 1633264),
    ]
    # A fusion nested in a fusion is opened: k and q are copied inside the product's fusion.
    members = [i.opcode for i in module.members(module.fusions[0])]
    assert members == ["copy", "copy", "convolution", "broadcast", "multiply"]
    names = {i.name: i for i in module.entry.instructions}
    assert [a.memory_space for a in names["copy-start"].arrays] == [1, 0, 2]
    assert names["copy-done"].arrays[0].memory_space == 1
    assert [a.dimensions for a in names["fusion.10"].arrays] == [(4, 16, 2048), (4, 16, 2048, 2048)]
    assert module.fusions[0].scoped_bytes(1) == 9437184
    assert module.fusions[0].scoped_bytes(0) == 0
    assert module.custom_calls == ()
    order = [i.name for i in module.entry.instructions]
    assert order.index("copy-start") < order.index("copy-done") < order.index("fusion.7")


def test_collectives_count_once_each():
    """The asynchronous all-gather stands in three fusions, and the all-reduce that scatters in one."""
    module = hlo.parse(SAMPLES["tpu_v5e_4chips_matmul"])
    assert module.collectives == {"all-gather": 2, "all-reduce": 1, "reduce-scatter": 1}
    assert SAMPLES["tpu_v5e_4chips_matmul"].count(" all-gather(") == 4


def test_the_verbose_form():
    module = hlo.parse(VERBOSE)
    assert not module.is_scheduled
    assert [i.opcode for i in module.launched] == ["reduce"]
    names = {i.name: i for i in module.entry.instructions}
    assert names["reduce.1"].operands == ("arg0.1", "zero")
    assert names["arg0.1"].arrays[0].dimensions == (4, 8)
    assert names["c"].arrays[0].bytes == 2  # three times four bits
    assert names["c"].arrays[0].memory_space == 5
    assert names["t"].operands == ("reduce.1", "c")
    [add] = [i for i in module.computations["sum.1"].instructions if i.is_root]
    assert add.op_name == "a, {b} (c"


def test_what_this_machine_s_jax_prints():
    jax = pytest.importorskip("jax", reason="pip install 'fuseproof[jax]'")
    shape = jax.ShapeDtypeStruct((8, 8), "float32")
    lowered = (
        jax.jit(lambda x: jax.numpy.tanh(x @ x).sum(axis=0)).trace(shape).lower(lowering_platforms=("cpu",))
    )
    plain = hlo.parse(lowered.as_text(dialect="hlo"))
    assert plain.fusions == ()
    assert {"dot", "tanh", "reduce"} <= set(plain.opcode_counts)


def test_text_cut_off_anywhere_is_refused(sample):
    lines = sample.rstrip().splitlines()
    whole = hlo.parse(sample)
    for count in range(len(lines)):
        with pytest.raises(UserError) as error:
            hlo.parse("\n".join(lines[:count]), source="cut.txt")
        assert "cut.txt" in str(error.value)
        assert "\n" not in str(error.value)
    assert hlo.parse("\n".join(lines)).opcode_counts == whole.opcode_counts


def test_a_line_cut_off_inside_is_refused(sample):
    """No prefix of an instruction is read as another one, unless only attributes are missing."""
    lines = sample.splitlines()
    number = next(i for i, line in enumerate(lines) if " fusion(" in line)
    indent = len(lines[number]) - len(lines[number].lstrip())
    for end in range(indent + 1, lines[number].index(" fusion(") + len(" fusion(")):
        with pytest.raises(UserError, match="line"):
            hlo.parse("\n".join([*lines[:number], lines[number][:end], *lines[number + 1 :]]))


@pytest.mark.parametrize("missing", ["fused_computation", "param_0"])
def test_a_missing_line_is_found(missing):
    lines = SAMPLES["cpu_layer_norm"].splitlines()
    if missing == "param_0":
        text = "\n".join(line for line in lines if "%param_0.4 = " not in line)
    else:
        text = SAMPLES["cpu_layer_norm"].replace("%fused_computation.4 (", "%other (")
    with pytest.raises(UserError, match="lines are missing"):
        hlo.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "module @f {\n}", '{"traceEvents": []}', "HloModule", "HloModule m\n\nprose\n", "\x00\xff"],
    ids=["empty", "blank", "mlir", "json", "no name", "prose inside", "binary"],
)
def test_foreign_text_is_refused_in_one_line(text):
    with pytest.raises(UserError) as error:
        hlo.parse(text, source="other.txt")
    assert str(error.value).startswith("other.txt")
    assert "\n" not in str(error.value)
