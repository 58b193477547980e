"""Users' workloads: what is read of them, and what their authors got wrong."""

import numpy as np
import pytest

from fuseproof.child_process import PlainError
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation, everything
from fuseproof.measure import describing, planning
from fuseproof.measure.opening import opened
from fuseproof.measure.planning import Selection, settings_for
from fuseproof.measure.values import Values
from fuseproof.runs.plan import Plan
from fuseproof.suites import Suite
from fuseproof.workloads.described import Described

MINE = '''
import numpy as np
from fuseproof import Implementation, Operator

class Scaled(Operator):
    """A product with a table."""
    rows: int
    named_shapes = {"small": {"rows": 3}, "large": {"rows": 70}}
    def draw_inputs(self, rng):
        x, table = rng.standard_normal((self.rows, 5)), rng.standard_normal(5)
        return {"x": x, "table": {"of": table}, "rate": 2.0}
    def forward(self, x, table, rate):
        return {"y": x * table["of"] * rate, "first": np.arange(self.rows)}
    def flops(self, pass_):
        return 2 * self.rows * 5

def eager(x, table, rate):
    return {"y": x * table["of"] * rate, "first": 0}

ROWS = [
    Implementation("scaled", "mine", framework="torch", target=":eager"),
    Implementation("scaled", "other", framework="torch", target=":eager", compiled="default"),
]
'''

SETTINGS = settings_for(Suite(name="mine", summary="", cases=()), device="cpu", threads=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("mine.py").write_text(MINE)
    return tmp_path


def planned(**selection):
    table, workloads = everything([], ["mine.py"])
    return planning.make(
        planning.suite_of(workloads), table, Selection(**selection), SETTINGS, workloads=workloads
    )


def test_a_file_is_a_plan_of_its_named_shapes(folder):
    plan = planned()
    assert [case.group for case in plan.cases] == [
        f"scaled[rows{rows}-float32-{pass_}]" for rows in (3, 70) for pass_ in ("forward", "forward_backward")
    ]
    assert [(each.name, each.baseline, each.yardstick) for each in plan.implementations] == [
        ("mine", "mine", "mine"),
        ("other", "mine", "mine"),
    ]
    workload = plan.cases[0].workload
    assert isinstance(workload, Described) and workload.source is None, "its code does not run here"
    assert {name: tensor.shape for name, tensor in workload.results("forward_backward").items()} == {
        "y": (3, 5),
        "first": (3,),
        "grad_x": (3, 5),
        "grad_table.of": (5,),
    }
    assert workload.flops("forward") == 30 and workload.minimum_bytes("forward", "float32") is None
    assert list(workload.cotangents) == ["y"]


def test_a_plan_holds_the_description_and_is_read_again(folder):
    plan = planned(cases=("scaled[small-bfloat16-forward]", "scaled[rows9-float32-forward]"))
    assert [case.group for case in plan.cases] == [
        "scaled[rows3-bfloat16-forward]",
        "scaled[rows9-float32-forward]",
    ]
    again = Plan.from_json(plan.to_json())
    assert again.to_json() == plan.to_json()
    assert [case.group for case in again.cases] == [case.group for case in plan.cases]


def test_a_worker_draws_and_the_referee_knows_what_is_right(folder):
    (case,) = planned(cases=("scaled[small-float32-forward_backward]",)).cases
    case = opened(case.group, case.workload.to_json())
    inputs, cotangents = Values(case, 1).arrays(7)
    found = case.workload.expected(inputs, cotangents, np.random.default_rng(0))
    exact = inputs["x"].astype(np.float64) * inputs["table.of"] * 2
    assert np.allclose(found["y"].values, exact)
    grad = (cotangents["y"].astype(np.float64) * inputs["x"] * 2).sum(axis=0)
    assert np.allclose(grad[found["grad_table.of"].index], found["grad_table.of"].values)


def test_without_named_shapes_the_remedy_is_named(folder):
    folder.joinpath("mine.py").write_text(MINE.replace("named_shapes =", "_unused ="))
    with pytest.raises(
        UserError, match=r"mine.py:Scaled has no named_shapes; .*--case 'scaled\[rows128-float32"
    ):
        planned()


WRONG = {
    "    def draw_inputs(self, rng): return {'x': np.full(3, np.nan)}": "the input 'x' holds NaN or infinity",
    "    def draw_inputs(self, rng): return {'x': np.random.standard_normal(3)}": "differs from draw to draw",
    "    def draw_inputs(self, rng): return {'x': np.ones(rng.integers(1, 10**6))}": "another shape in",
    "    def draw_inputs(self, rng): return {'x': np.ones((3, 0))}": "no extent may be 0",
    "    def draw_inputs(self, rng): return {'x': np.array(['a'])}": "x is an array of <U1; use real numbers",
    "    def draw_inputs(self, rng): return {}": "draw_inputs must return a dictionary of inputs",
    "    def draw_inputs(self, rng): return np.ones(3)": "draw_inputs must return a dictionary",
    "    def draw_inputs(self, rng): return {'x': {f'p{i}': np.ones(2) for i in range(10000)}}\n"
    "    def forward(self, x): return x['p0']": "10,000 inputs; join",
    "    def forward(self, x): return None": "it has no output",
    "    def forward(self, x): return {}": "it has no output",
    "    def forward(self, x): return x + np.random.standard_normal(3)": "output differs from call to call",
    "    def forward(self, x): return x / 0": "output holds NaN or infinity for inputs that are finite",
    "    def forward(self, x): return {'grad_x': x}": "'grad_x' is named like a gradient; rename it",
    "    def forward(self, x): return np.array(['a'])": "output is an array of <U1",
    "    def forward(self, x): raise ValueError('oops')": "ValueError: oops",
}


@pytest.mark.parametrize(("code", "message"), WRONG.items())
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_an_author_got_wrong_is_one_line_that_names_the_class(tmp_path, monkeypatch, code, message):
    text = f"""
import numpy as np
from fuseproof import Operator
class Base(Operator):
    n: int = 3
    def draw_inputs(self, rng): return {{"x": rng.standard_normal(3)}}
    def forward(self, x): return x
class Wrong(Base):
{code}
"""
    file = tmp_path / "wrong.py"
    file.write_text(text)
    target = f"{file}:Wrong"
    request = {"target": target, "labels": ["n3"], "reference": None, "given": True, "notes": []}
    with pytest.raises(PlainError, match=message) as caught:
        describing._described({"workloads": [request]})
    assert str(caught.value).startswith(target) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class A(Operator):\n  name = 'a b'", "'a b' is no name of a workload"),
        ("class A(Operator):\n  name = '../a'", r"'\.\./a' is no name of a workload"),
        ("class Matmul(Operator): pass", "'matmul' is the name of a built-in workload"),
        ("class A(Operator):\n  dtypes = ('float33',)", "unknown dtype 'float33'; there are float32"),
        ("class A(Operator):\n  passes = ()", "unknown pass ''; there are forward"),
        ("class A(Operator):\n  n: int\n  named_shapes = {'a': {'m': 1}}", "has no field 'm'; there are n"),
        ("class A(Operator):\n  n: list", "the field n is of list"),
        ("x = 1", "defines no workload: no subclass of fuseproof.Operator"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_declares_no_workload_is_one_line_that_names_it(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("theirs.py").write_text(f"from fuseproof import Operator\n{text}\n")
    with pytest.raises(UserError, match=f"theirs.py.*{message}") as caught:
        everything([], ["theirs.py"])
    assert "\n" not in str(caught.value)


def test_two_workloads_of_one_name_are_refused(folder):
    folder.joinpath("again.py").write_text(MINE)
    with pytest.raises(UserError, match=r"two workloads are named 'scaled': .*mine.py:Scaled and .*again.py"):
        everything([], ["mine.py", "again.py"])


def test_workloads_are_named_in_pyproject_too(folder):
    folder.joinpath("pyproject.toml").write_text('[tool.fuseproof]\nworkloads = ["mine.py:Scaled"]\n')
    table, workloads = everything()
    assert [each.name for each in workloads] == ["scaled"]
    assert [each.name for each in table if each.workload == "scaled"] == ["mine", "other"], "beside it"


def test_an_implementation_that_is_to_be_the_reference_must_exist(folder):
    (declared,) = everything([], ["mine.py"])[1]
    declared = declared.__class__(**{**declared.to_json(), "reference_by": "theirs"})
    own = [Implementation("scaled", "mine", framework="torch", target="m:f")]
    with pytest.raises(
        UserError, match="reference_by is 'theirs', which is no implementation of scaled; there are mine"
    ):
        describing.Wanted.of(declared, ["rows3"], own)


TRAINED = """
from fuseproof import Implementation, Module

class Line(Module):
    n: int
    named_shapes = {"small": {"n": 3}}
    passes = ("training_step",)
    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((2, self.n))}

def line(n):
    from torch import nn
    return nn.Linear(n, 1)

ROWS = [Implementation("line", "mine", framework="torch", target=":line")]
"""


def test_a_module_may_have_one_pass_only(folder):
    folder.joinpath("mine.py").write_text(TRAINED)
    (case,) = planned().cases
    assert case.pass_ == "training_step"
    assert {name: tensor.shape for name, tensor in case.workload.outputs_by_name.items()} == {
        "output": (2, 1)
    }
