"""What is read of a compiled kernel, and what the budget may allow; `make aot` compares kernels with it."""

from dataclasses import replace

import pytest

from fuseproof.kernels.triton.ahead_of_time import (
    INSTRUCTIONS,
    Resources,
    compile_launch,
    count_instructions,
    resources,
)
from fuseproof.kernels.triton.launch import ARCHITECTURES, Launch
from fuseproof.profiling.ahead_of_time.triton import budget, compiler_process


def launches(operator: str, dtype: str, capability: int) -> list[Launch]:
    return list(compiler_process.launches(operator, dtype, capability).values())


BUDGET = budget.load(budget.FILE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float8_e4m3fn"])
def test_the_budget_has_no_spills_on_hopper(dtype):
    rows = BUDGET["3.7", "sm_90", dtype]
    assert rows
    assert {label: row for label, row in rows.items() if row.spill_bytes} == {}


def test_the_budget_is_within_every_target():
    for (_, target, _), rows in BUDGET.items():
        for label, row in rows.items():
            architecture = ARCHITECTURES[int(target.removeprefix("sm_"))]
            assert row.shared_bytes <= architecture.shared_memory, label
            assert 0 < row.registers <= 255, label
            assert row.occupancy_warps > 0, label


@pytest.mark.parametrize(("operator", "instruction"), [("attention", "wgmma"), ("matmul", "wgmma")])
def test_hopper_kernels_use_its_tensor_cores(operator, instruction):
    launch = launches(operator, "bfloat16", 90)[0]
    assert instruction in compile_launch(launch, 90).asm["ptx"]


def test_spills_are_seen():
    """The budget is worth nothing if a kernel that must spill is read as clean."""
    [launch] = (one for one in launches("layer_norm", "bfloat16", 90) if "-1x8192w8p0s1-" in one.label)
    starved = replace(launch, num_warps=1)  # 256 values per thread
    assert resources(starved, 90).spill_bytes > 0


def test_resources_have_names():
    used = resources(launches("layer_norm", "bfloat16", 90)[0], 90)
    assert isinstance(used, Resources)
    assert used.label == "layer_norm[4096x4096-forward-1x4096w8p0s1-bfloat16]"
    assert (used.capability, used.num_warps) == (90, 8)


def test_instructions_are_counted_in_machine_code_or_else_in_ptx():
    sass = """
        /*0040*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT ;
        /*0050*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0060*/                   LDG.E R8, desc[UR4][R2.64] ;
        /*0070*/                   LDGSTS.E.BYPASS.128 [R3], desc[UR4][R4.64] ;
        /*0080*/                   LDGDEPBAR ;
        /*0090*/             @UP0 UTMALDG.2D [UR8], [UR4] ;
        /*00a0*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*00b0*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*00c0*/                   HFMA2.MMA R2, -RZ, RZ, 0, 0 ;
        /*00d0*/                   STL [R1], R4 ;
        /*00e0*/                   UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8], idesc[UR10], UP0 ;
    """
    expected = dict.fromkeys(INSTRUCTIONS, 1) | {"load": 2}
    assert count_instructions(sass=sass, ptx="") == expected
    ptx = """
        wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f0}, %rd1, %rd2, 1;
        @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        ld.global.b32 { %r1 }, [ %rd1 + 0 ];
        cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10;
        cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2}], [%r4];
        cp.async.wait_group 0;
        st.global.v4.b32 [ %rd1 + 0 ], { %r1, %r2, %r3, %r4 };
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %f1 }, { %r1 }, { %r2 }, { %f1 };
        st.local.b32 [%rd1], %r1;
        tcgen05.mma.cta_group::1.kind::f16 [ %r1 ], %rd1, %rd2, %r2, %p1;
    """
    assert count_instructions(sass=None, ptx=ptx) == expected
