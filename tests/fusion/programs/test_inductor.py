"""What is read from Inductor's output code: short texts as it writes them, and other text."""

import pytest

from fuseproof.errors import UserError
from fuseproof.fusion.programs import inductor
from fuseproof.fusion.programs.operations import Operation

CPU = """
from torch._inductor.async_compile import AsyncCompile
async_compile = AsyncCompile()
cpp_fused__softmax_add_native_layer_norm_0 = async_compile.cpp_pybinding(['float*'], r'''
extern "C"  void  kernel(float* in_out_ptr0,
                       const float* in_ptr0,
                       float* out_ptr0)
{
    #pragma omp parallel num_threads(2)
    {
        for(int64_t x0=0; x0<4; x0+=1)
        {
            for(int64_t x1=0; x1<8; x1+=1)
            {
                out_ptr0[x0] = in_ptr0[x0];
            }
            for(int64_t x1=0; x1<8; x1+=1)
            {
                {
                    out_ptr0[x0] += in_ptr0[x0];
                }
            }
        }
    }
    {
        for(int64_t x0=0; x0<4; x0+=1)
        {
            in_out_ptr0[x0] += 1;
        }
    }
}
''')


class Runner:
    def call(self, args):
        arg0_1, arg1_1 = args
        args.clear()
        s0 = arg1_1
        assert_size_stride(arg0_1, (4, s0), (s0, 1), 'input')
        buf0 = empty_strided_cpu((4, s0), (s0, 1), torch.float32)
        # Topologically Sorted Source Nodes: [y], Original ATen: [aten.t, aten.addmm]
        extern_kernels.mm(arg0_1, reinterpret_tensor(arg0_1, (8, 4), (1, 8), 0), out=buf0)
        buf1 = buf0; del buf0  # reuse
        buf2 = empty_strided_cpu((4, 1), (1, 4), torch.bfloat16)
        cpp_fused__softmax_add_native_layer_norm_0(buf1, arg0_1, buf2)
        buf3 = torch.ops.aten.sort.default(reinterpret_tensor(arg0_1, (4, 8), (0, 1), 0))
        buf4 = buf3[0]
        assert_size_stride(buf4, (4, 8), (8, 1), 'torch.ops.aten.sort.default')
        buf5 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf2, buf2, buf2)
        buf6 = buf5[0]
        assert_size_stride(buf6, (4, 1), (1, 1), 'torch.ops.aten')
        buf7 = buf5[1]
        assert_size_stride(buf7, (4, ), (1, ), 'torch.ops.aten')
        return (buf1, )


def get_args():
    arg0_1 = rand_strided((4, 8), (8, 1), device='cpu', dtype=torch.float32)
    arg1_1 = 8
    return [arg0_1, arg1_1]
"""

GPU = """
async_compile = AsyncCompile()
triton_per_fused_0 = async_compile.triton('triton_per_fused_0', '''
@triton.jit
def triton_per_fused_0(in_out_ptr0, in_ptr0, xnumel, XBLOCK : tl.constexpr):
    pass
''', device_str='cuda')

def partition_0(args):
    arg0_1, = args
    with torch.cuda._DeviceGuard(0):
        buf0 = empty_strided_cuda((2, 3), (3, 1), torch.float16)
        # Topologically Sorted Source Nodes: [a, b], Original ATen: [aten.add, aten._softmax]
        # Graph fragment: %add = ...
        raw_stream0 = get_raw_stream(0)
        triton_per_fused_0.run(buf0, arg0_1, triton_per_fused_0_xnumel, stream=raw_stream0)
    return (buf0, )

def call(args):
    return self.partitions[0](args)

def get_args():
    arg0_1 = rand_strided((2, 3), (3, 1), device='cuda:0', dtype=torch.float16)
    return [arg0_1]
"""


def test_a_cpu_module():
    mm, fused, sort, attention = inductor.kernels(CPU)
    assert (mm.name, mm.kind, mm.members) == ("mm", "library", ("t", "addmm"))
    assert mm.bytes == 3 * 4 * 8 * 4, "both operands, one of them through a view, and the result"
    assert fused.kind == "fusion"
    assert fused.members == ("_softmax", "add", "native_layer_norm")
    assert fused.bytes == 2 * 4 * 8 * 4 + 4 * 8 * 4 + 4 * 2, "what is changed in place is read and written"
    assert fused.loop_nests == 3, "two passes over each row, and one over the rows"
    assert sort.name == "aten.sort"
    assert sort.bytes == 8 * 4 + 4 * 8 * 4, "a broadcast reads its source; the result's size is asserted"
    assert attention.bytes == 4 * 2 + 4 * 2 + 4 * 4, "one input three times, the output, and a float32 result"


def test_a_gpu_module():
    assert inductor.kernels(GPU) == (
        Operation(name="triton_per_fused_0", kind="fusion", members=("add", "_softmax"), bytes=2 * 6 * 2),
    )


def test_memory_that_a_kernel_writes_first_is_not_read():
    fresh = CPU.replace("        extern_kernels.mm(arg0_1", "        unknown(arg0_1")
    (fused, *_) = inductor.kernels(fresh)
    assert fused.bytes == 4 * 8 * 4 + 4 * 8 * 4 + 4 * 2, (
        "written by no one before, the buffer is only written"
    )


def test_operators_that_the_caller_knows_are_separated():
    text = CPU.replace("_softmax_add_native_layer_norm", "_softmax_made_up_op_add")
    (_, fused, *_) = inductor.kernels(text, operators=("made_up_op", "_softmax", "add"))
    assert fused.members == ("_softmax", "made_up_op", "add")


def test_a_size_that_nothing_states_is_unknown():
    (kernel,) = inductor.kernels(GPU.replace("empty_strided_cuda", "made_up"))
    assert kernel.bytes is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CPU[:1500], "cut off or foreign"),
        (CPU[: CPU.index("buf3 =")], "`call` does not return"),
        (CPU.partition("class Runner")[0], "defines no `call`"),
        ("HloModule jit_f\n", "is not Python"),
        ("def call(self):\n    pass\n", "other Python"),
        ("x = '\0'", "is not Python"),
        ("", "defines no `call`"),
    ],
    ids=[
        "cut off",
        "cut off between lines",
        "cut off before the call",
        "HLO",
        "other Python",
        "binary",
        "empty",
    ],
)
def test_other_text_is_one_clear_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        inductor.kernels(text, source="given")
    assert str(caught.value).startswith("given")
    assert "\n" not in str(caught.value)
