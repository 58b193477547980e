"""A run directory of two cases and its pieces, written without measuring."""

from fuseproof import suites
from fuseproof.cases import Case
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import planning, reasons
from fuseproof.runs.pieces import digest
from fuseproof.runs.plan import Settings

CASE = Case.from_group("layer_norm[3x5-float32-forward]")
OTHER = Case.from_group("matmul[3x5x7-float32-forward]")


def make_plan(monkeypatch):
    """A plan for two frameworks, whether they are installed or not."""
    monkeypatch.setattr(reasons.importlib.util, "find_spec", lambda name: object())
    return planning.make(
        suites.get("smoke"),
        IMPLEMENTATIONS,
        planning.Selection(cases=(CASE.group, OTHER.group), only=("torch.compile", "jax.jit")),
        Settings(blocks=2, max_blocks=3),
        command=["fuseproof", "run"],
    )


def ran(error=1e-7, call_seconds=1e-3, compile_seconds=None):
    return {
        "status": "ran",
        "errors": {"output": error},
        "compile_seconds": compile_seconds,
        "peak_memory_bytes": 128,
        "call_seconds": call_seconds,
    }


def save_check(directory, framework="torch", case=CASE, **rows):
    record = {"group": case.group, "description": {"version": framework}, "rows": rows}
    directory.save_check(
        framework, case, {**record, "rows": {key.replace("_", "."): v for key, v in rows.items()}}
    )


def save_cell(directory, block, legs, case=CASE, failures=None, **more):
    legs = {name: [{"wall": seconds} for seconds in by_leg] for name, by_leg in legs.items()}
    directory.save_cell(block, case, {"group": case.group, "legs": legs, "failures": failures or {}, **more})


def save_profile(directory, kernels, framework="torch", case=CASE):
    rows = {name: {"kernels": count, "notes": []} for name, count in kernels.items()}
    directory.save_profile(framework, case, {"group": case.group, "rows": rows})


def hashed(document):
    """A document of plan.json with the hash that belongs to it."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return {**content, "sha256": digest(content)}


def stamped(document):
    """A piece with the hash that belongs to it."""
    content = {key: value for key, value in document.items() if key not in ("schema", "plan", "sha256")}
    return {**document, "sha256": digest(content)}
