import assert from "node:assert/strict";
import { test } from "node:test";
import { shortName } from "../../../../profiling/pages/html/short_name.js";

const NAMES = {
  "void at::native::fill<4, at::FillFunctor<float>, std::array<char*, 1ul> >(int, at::FillFunctor<float>)":
    "fill<4, FillFunctor<float>, array<char*, 1ul> >",
  "void (anonymous namespace)::softmax_warp_forward<c10::BFloat16>(c10::BFloat16*, int)":
    "softmax_warp_forward<BFloat16>",
  "void cutlass::Kernel2<cutlass_75_tensorop_bf16>(cutlass_75_tensorop_bf16::Params)":
    "Kernel2<cutlass_75_tensorop_bf16>",
  "std::enable_if<!(false), void>::type internal::gemvx<int>(int)":
    "enable_if<!(false), void>::type gemvx<int>",
  triton_per_fused_add_native_layer_norm_0: "triton_per_fused_add_native_layer_norm_0",
  "aten::add_": "aten::add_",
  "Memcpy DtoH (Device -> Pageable)": "Memcpy DtoH (Device -> Pageable)",
  "void ": "void ",
  "": "",
};

for (const [name, expected] of Object.entries(NAMES)) {
  test(`what fits on a slice: ${expected || "nothing"}`, () => {
    assert.equal(shortName(name), expected);
    assert.equal(shortName(name), expected); // and again, from memory
  });
}
