"""What is read from Inductor's output code: against short texts, and against the profiler on real ones."""

import importlib.util
import os
import subprocess
import sys

import pytest

from fuseproof.errors import UserError
from fuseproof.fusion import inductor

CPU = """
cpp_fused__softmax_add_native_layer_norm_0 = async_compile.cpp_pybinding(['float*'], r'''
extern "C"  void  kernel(float* in_out_ptr0,
                       const float* in_ptr0,
                       float* out_ptr0)
{
    {
        for(int64_t x0=0; x0<4; x0+=1)
        {
            for(int64_t x1=0; x1<8; x1+=1)
            {
                out_ptr0[x0] = in_ptr0[x0];
            }
        }
    }
    #pragma omp parallel num_threads(2)
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
        buf3 = torch.ops.aten.sort.default(arg0_1)
        buf4 = buf3[0]
        assert_size_stride(buf4, (4, 8), (8, 1), 'torch.ops.aten.sort.default')
        return (buf1, )


def get_args():
    arg0_1 = rand_strided((4, 8), (8, 1), device='cpu', dtype=torch.float32)
    arg1_1 = 8
    return [arg0_1, arg1_1]
"""

GPU = """
triton_per_fused_0 = async_compile.triton('triton_per_fused_0', '''
@triton.jit
def triton_per_fused_0(in_out_ptr0, in_ptr0, xnumel, XBLOCK : tl.constexpr):
    pass
''', device_str='cuda')

def call(args):
    arg0_1, = args
    with torch.cuda._DeviceGuard(0):
        buf0 = empty_strided_cuda((2, 3), (3, 1), torch.float16)
        # Topologically Sorted Source Nodes: [a, b], Original ATen: [aten.add, aten._softmax]
        # Graph fragment: %add = ...
        stream0 = get_raw_stream(0)
        triton_per_fused_0.run(buf0, arg0_1, 6, stream=stream0)
    return (buf0, )

def get_args():
    arg0_1 = rand_strided((2, 3), (3, 1), device='cuda:0', dtype=torch.float16)
    return [arg0_1]
"""

# A step in a process of its own: what the code says is launched, and what the profiler saw.
REAL = """
import torch
from torch._inductor import config
from torch._inductor.utils import run_and_get_code
from torch.profiler import ProfilerActivity, profile
from fuseproof.fusion import inductor, torch_ops

torch.set_num_threads(1)
config.cpp.enable_kernel_profile = True
inputs = [torch.randn(*shape, requires_grad=True) for shape in ((16, 32), (32,), (32,))]
cotangent = torch.randn(16, 32)
operator = torch.compile(torch_ops.layer_norm_composed)
step = lambda: torch.autograd.grad(operator(*inputs), inputs, cotangent)
_, codes = run_and_get_code(step)
step()
with profile(activities=[ProfilerActivity.CPU]) as trace:
    step()
seen = sorted(e.name.partition("_cpp_")[2] for e in trace.events() if "cpp_fused" in e.name)
said = sorted(k.name.removeprefix("cpp_") for code in codes for k in inductor.kernels(code))
print("compared", len(codes), seen == said, said)
"""


def test_a_cpu_module():
    mm, fused, sort = inductor.kernels(CPU)
    assert (mm.name, mm.generated, mm.members) == ("mm", False, ("t", "addmm"))
    assert mm.bytes == 3 * 4 * 8 * 4, "both operands, one of them through a view, and the result"
    assert fused.generated
    assert fused.members == ("_softmax", "add", "native_layer_norm")
    assert fused.bytes == 2 * 4 * 8 * 4 + 4 * 8 * 4 + 4 * 2, "what is changed in place is read and written"
    assert fused.loop_nests == 2
    assert (sort.name, sort.generated, sort.bytes) == ("aten.sort", False, 4 * 8 * 4)


def test_a_gpu_module():
    (kernel,) = inductor.kernels(GPU)
    assert kernel == inductor.Kernel(
        name="triton_per_fused_0", generated=True, members=("add", "_softmax"), bytes=3 * 6 * 2
    )


def test_a_size_that_nothing_tells_is_unknown():
    (kernel,) = inductor.kernels(GPU.partition("def get_args")[0].replace("empty_strided_cuda", "made_up"))
    assert kernel.bytes is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CPU[:-400], "cut off or foreign"),
        ("HloModule jit_f\n", "is not Python"),
        ("x = 1\n", "defines no `call`"),
        ("", "defines no `call`"),
    ],
    ids=["cut off", "HLO", "other Python", "empty"],
)
def test_other_text_is_one_clear_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        inductor.kernels(text, source="given")
    assert "\n" not in str(caught.value)


def test_the_profiler_sees_the_kernels_that_the_code_launches(tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed; pip install 'fuseproof[torch]'")
    done = subprocess.run(
        [sys.executable, "-c", REAL],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "compared 2 True" in done.stdout, done.stdout + done.stderr
