"""The schedule of a TPU program as `fuseproof compile` prints it."""


def step(name, opcode, cycles=None, hbm=100, vmem=0, scoped=0, op_name=None):
    return {
        "instruction": name,
        "opcode": opcode,
        "op_name": op_name,
        "estimated_cycles": cycles,
        "fused": 3 if opcode == "fusion" else 0,
        "hbm_live_bytes": hbm,
        "vmem_live_bytes": vmem,
        "vmem_scoped_bytes": scoped,
    }


RESULT = {
    "target": "tpu-v5e",
    "case": "layer_norm[64x256-bfloat16-forward]",
    "implementation": "pallas",
    "estimate": True,
    "status": "ok",
    "device_kind": "TPU v5 lite",
    "versions": {"jax": "0.10.2"},
    "peak_bytes": 164,
    "schedule": [
        step("x", "parameter"),
        step("copy-start.2", "copy-start", hbm=110, vmem=32),
        step("add_fusion", "fusion", 300, hbm=140, vmem=32, op_name="jit(f)/add"),
        step("kernel", "custom-call", vmem=64, scoped=8),
        step("copy-done.2", "copy-done", vmem=64),
        step("sum", "fusion", 100, hbm=120),
        step("out", "tuple"),
    ],
    "memory_plan": {
        "peak_bytes": 164,
        "resident_bytes": 100,
        "hbm_temporary_peak_bytes": 40,
        "vmem_peak_bytes": 64,
        "buffers": [
            {"instruction": "add_fusion", "index": "{}", "space": "HBM", "offset": 0, "bytes": 40,
             "first_step": 2, "last_step": 3},
            {"instruction": "copy-start.2", "index": "{0}", "space": "VMEM", "offset": 0, "bytes": 32,
             "first_step": 1, "last_step": 7},
        ],
    },
}  # fmt: skip
