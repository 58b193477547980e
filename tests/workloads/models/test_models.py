"""Whole models: the table, their names at both scales, what is said where their library is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fuseproof import suites
from fuseproof.cases import parse_group
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, resolve_function
from fuseproof.measure import planning, reasons
from fuseproof.measure.planning import Selection
from fuseproof.runs.plan import Settings
from fuseproof.workloads.models import MODELS

ROWS = {name: [each for each in IMPLEMENTATIONS if each.workload == name] for name in MODELS}
IN_TORCH = [name for name, rows in ROWS.items() if any(each.framework == "torch" for each in rows)]
SUITE = suites.get("claims-models")
# No size at which a leg's new parameters take longer than its calls, and none that is no model any more.
FEWEST, MOST = 0.1e6, 6e6


def test_every_model_has_rows_that_share_a_process():
    for name, rows in ROWS.items():
        names = [each.name for each in rows]
        assert MODELS[name].reference_by in names, name
        assert {each.baseline for each in rows} <= set(names), name
        assert not any(each.is_foreign for each in rows), name
    assert {"torch.eager", "torch.compile"} <= {each.name for each in ROWS["bert"]}


def test_a_population_of_models_has_the_same_models_and_passes_at_both_scales():
    small, large = ([parse_group(g) for g in suites.get("claims-models", s).groups] for s in ("cpu", "gpu"))
    assert [(e.operator, e.dtype, e.pass_) for e in small] == [(e.operator, e.dtype, e.pass_) for e in large]
    assert all(
        "_base" not in one.shape and "_base" in other.shape
        for one, other in zip(small, large, strict=True)
        if one.operator in IN_TORCH
    )
    in_torch = {e.operator for e in small if e.operator in IN_TORCH and e.operator != "bert_lengths"}
    assert len(in_torch) >= 12
    for name in in_torch:
        batches = [e.shape.partition("_")[0] for e in small if (e.operator, e.pass_) == (name, "inference")]
        assert "batch1" in batches and len({*batches}) > 1, f"{name}: inference at batch 1 and a larger one"
        assert any((e.operator, e.pass_) == (name, "training_step") for e in small), name
    assert any(e.shape.endswith("_bfloat16") for e in small)


def test_inputs_are_drawn_within_the_vocabulary():
    for name in IN_TORCH:
        kind = MODELS[name]
        for label in kind.named_shapes.values():
            shape = kind.from_label(label)
            drawn = shape.draw_inputs(np.random.default_rng(0))
            if "tokens" in drawn:
                assert drawn["tokens"].dtype == np.int64
                assert drawn["tokens"].max() < (kind.vocabulary if shape.base else 1024)


def test_autocast_is_part_of_the_shape():
    shape = MODELS["bert"].from_label("batch2_length16_bfloat16")
    assert (shape.autocast, shape.label) == ("bfloat16", "batch2_length16_bfloat16")
    assert MODELS["bert"].from_label("batch2_length16").autocast == ""
    assert shape.options == {"batch": 2, "length": 16, "base": False, "bfloat16": True}


def test_a_model_whose_library_is_missing_is_skipped_with_the_command_that_installs_it(monkeypatch):
    find = reasons.importlib.util.find_spec
    monkeypatch.setattr(
        reasons.importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name)
    )
    wanted = "transformers is not installed; pip install 'fuseproof[models]'"
    group = "bert[batch1_length64-float32-inference]"
    with pytest.raises(UserError, match="nothing to measure: transformers is not installed"):
        planning.make(SUITE, IMPLEMENTATIONS, Selection(cases=(group,)), Settings())
    plan = planning.make(
        SUITE,
        IMPLEMENTATIONS,
        Selection(cases=(group, "softmax[7x65-float32-forward]"), only=("torch.eager", "torch.compile")),
        Settings(),
    )
    assert {(each.group, each.implementation, each.message) for each in plan.skipped} == {
        (group, name, wanted) for name in ("torch.eager", "torch.compile")
    }
    assert [case.group for case in plan.cases] == [group, "softmax[7x65-float32-forward]"]
    assert "transformers" not in sys.modules, "it is looked for and not imported"


def test_every_model_is_made_and_called_at_the_small_scale():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    groups = [f"{name}[{MODELS[name].named_shapes['cpu']}-float32-inference]" for name in IN_TORCH]
    cases = planning.named_cases(groups, (), IMPLEMENTATIONS)
    assert [case.workload.name for case in cases] == IN_TORCH
    for case in cases:
        state = case.workload.state
        count = sum(int(np.prod(shape)) for shape, _, _ in state.parameters.values())
        assert FEWEST < count < MOST, (case.group, count)
        assert all(spread > 0 for _, _, spread in state.parameters.values()), case.group
        assert all(tensor.shape[0] == 1 for tensor in case.workload.outputs_by_name.values()), case.group
        assert not case.workload.notes, case.group
    lengths = next(case for case in cases if case.workload.name == "bert_lengths")
    assert {name: tensor.shape for name, tensor in lengths.workload.outputs_by_name.items()} == {
        str(length): (1, length, 1024) for length in (16, 24, 32, 48, 64)
    }


def test_the_configurations_in_use_have_the_vocabulary_that_is_drawn_from_no_kink_and_no_dropout():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    kinked = (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.MaxPool2d)
    for name in IN_TORCH:
        kind = MODELS[name]
        shape = kind.from_label("gpu")
        with torch.device("meta"):  # shapes alone: nothing is allocated
            made = _made(ROWS[name][0].target, shape.options)
        odd = [each for each in made.modules() if isinstance(each, kinked) or getattr(each, "p", 0)]
        assert not odd, f"{name}: a kink, where a rounding error flips a gradient, or dropout"
        tables = {each.shape[0] for each in made.parameters() if each.dim() == 2}
        assert not kind.vocabulary or kind.vocabulary in tables, name


def _made(target, options):
    function = resolve_function(target)
    names = function.__code__.co_varnames[: function.__code__.co_kwonlyargcount]
    return function(**{name: options[name] for name in names})
