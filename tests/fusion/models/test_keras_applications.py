"""A model of keras.applications is the same on TensorFlow and on JAX, by the project's own check."""

from __future__ import annotations

import pytest

from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.measure import checks, planning, reasons

GROUP = "keras_mobilenet_v3[batch2_size32-float32-inference]"
ROWS = {"tensorflow": "keras.function", "jax": "keras.jit"}
# The model with SiLU for its last hard swish, and with more parameters.
BROKEN = """
import keras
from fuseproof.fusion.models.keras.applications import mobilenet_v3_small

def another_activation(size):
    model = mobilenet_v3_small(size)
    activations = [each for each in model.layers if isinstance(each, keras.layers.Activation)]
    last = [each for each in activations if each.activation is not keras.activations.linear][-1]
    last.activation = keras.activations.silu
    return model

def more(size):
    model = mobilenet_v3_small(size)
    return keras.Sequential([model, keras.layers.Dense(1000)])
"""


@pytest.fixture(scope="module")
def case():
    for framework in ROWS:
        if (reason := reasons.reason_without_framework(framework)) is not None:
            pytest.skip(reason)
    (found,) = planning.named_cases([GROUP], (), IMPLEMENTATIONS)
    return found


@pytest.mark.parametrize("framework", ROWS)
def test_outputs_are_right_and_broken_variants_are_caught(case, framework, start_worker, tmp_path):
    file = tmp_path / f"broken_{framework}.py"
    file.write_text(BROKEN)
    worker = start_worker(framework)
    worker.open_case(GROUP, workload=case.workload.to_json())
    (row,) = (
        each
        for each in IMPLEMENTATIONS
        if (each.workload, each.name) == (case.workload.name, ROWS[framework])
    )
    worker.prepare(row)
    assert judged(case, worker.errors(row.name)).passed
    broken = broken_variant(file, "another_activation", row)
    worker.prepare(broken)
    assert not judged(case, worker.errors(broken.name)).passed
    with pytest.raises(Exception, match="its parameters are not those of the reference"):
        worker.prepare(broken_variant(file, "more", row))


def broken_variant(file, name, row):
    return Implementation(
        row.workload,
        name,
        framework=row.framework,
        target=f"{file}:{name}",
        compiled=row.compiled,
        baseline=name,
    )


def judged(case, errors):
    return checks.judge(errors, None, dtype=case.dtype, longest=case.workload.longest_axis)


def test_keras_that_is_not_installed_is_said(monkeypatch):
    here = reasons.importlib.util.find_spec
    monkeypatch.setattr(
        reasons.importlib.util, "find_spec", lambda name: None if name == "keras" else here(name)
    )
    rows = [each for each in IMPLEMENTATIONS if each.name == "keras.jit"]
    if reasons.reason_without_framework("jax") is not None:
        pytest.skip("needs jax; pip install jax")
    assert {reasons.reason_not_here(each, "cpu") for each in rows} == {
        "keras is not installed; pip install keras"
    }
