"""Real workers, shapes to draw from, and run files with known contents for the tests of the spine."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from support import browser as browsers
from support.runs import make_benchmark, make_comparisons, make_run

from fuseproof.files import write_json
from fuseproof.implementations import Implementation
from fuseproof.measure.crew import worker_environment
from fuseproof.measure.referee import Referee
from fuseproof.measure.worker_process import WorkerProcess
from fuseproof.runs import environment, run_file
from fuseproof.runs.records import Benchmark, Failure, Run
from fuseproof.workloads.operators import Operator
from fuseproof.workloads.operators.attention import Attention
from fuseproof.workloads.operators.cross_entropy import CrossEntropy
from fuseproof.workloads.operators.embedding import Embedding
from fuseproof.workloads.operators.layer_norm import LayerNorm
from fuseproof.workloads.operators.matmul import Matmul
from fuseproof.workloads.operators.rms_norm import RMSNorm
from fuseproof.workloads.operators.rotary import Rotary
from fuseproof.workloads.operators.softmax import Softmax
from fuseproof.workloads.operators.swiglu import SwiGLU

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No example has to be fast: the machine may be busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Nothing these tests ask for takes a minute; on any machine only a hung worker is silent for this long.
PATIENCE = 600.0


class RealWorker:
    """A worker process, asked as the crew asks it."""

    def __init__(self, framework: str, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{framework}.log"
        self.referee = Referee()
        self.process = WorkerProcess(
            framework,
            device="cpu",
            threads=1,
            cpus=environment.usable_cpus()[:1],
            environment=worker_environment(device="cpu", threads=1, caches=folder / "caches", cold=False),
            log=self.log,
        )

    def ask(self, do: str, *, timeout: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        return self.process.ask(do, timeout=timeout, **arguments)

    def open_case(
        self, group: str, *, seed: int = 0, last_level_cache: int = 1, workload: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """workload: as it was described, of a module."""
        given = {"group": group, "seed": seed, "workload": workload}
        self.referee.open_case(**given)
        return self.ask("open_case", last_level_cache=last_level_cache, **given)

    def prepare(self, implementation: Implementation, **patience: float) -> dict[str, Any]:
        return self.ask("prepare", implementation=implementation.to_json(), **patience)

    def errors(self, name: str) -> dict[str, float]:
        """The larger error of each tensor of two results, by the referee; NaN if one is not finite."""
        draws = [1, 2]
        files = [str(self.folder / f"{draw}.bin") for draw in draws]
        self.ask("check", name=name, draws=draws, files=files)
        found = [
            self.referee.compare(draw=draw, file=file)["errors"]
            for draw, file in zip(draws, files, strict=True)
        ]
        return {
            tensor: math.nan if None in (one := [each[tensor] for each in found]) else max(one)
            for tensor in found[0]
        }

    def leg(self, name: str, *, rounds: int, calls: int, warm_up: int, draw: int = 3) -> dict[str, Any]:
        """Arms a leg and times it."""
        self.ask("arm", name=name, draw=draw, rounds=rounds, calls=calls, warm_up=warm_up)
        return self.ask("time")


# Inductor otherwise compiles a program in each fresh cache, and the tests have many, to see whether the
# vector instructions that the CPU lists work.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is laid out as into a pipe, unless a test says otherwise; xdist sets the variable."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each opens its own window with `support.browser.open_page`."""
    if reason := browsers.why_not():
        pytest.skip(reason)
    with browsers.launched() as launched:
        yield launched


def framework_or_skip(framework: str) -> str:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    return framework


@pytest.fixture(scope="module")
def start_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RealWorker]]:
    """Starts a worker of a framework; all are ended after the module."""
    workers: list[RealWorker] = []

    def start(framework: str) -> RealWorker:
        workers.append(RealWorker(framework_or_skip(framework), tmp_path_factory.mktemp(framework)))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.close()


@pytest.fixture(scope="session")
def any_operator() -> st.SearchStrategy[Operator]:
    """Every operator at any shape."""
    extent = st.integers(1, 5000)

    @st.composite
    def attention(draw: st.DrawFn) -> Attention:
        heads = draw(extent)
        return Attention(
            batch=draw(extent),
            query_heads=heads * draw(st.integers(1, 8)),
            key_value_heads=heads,
            query_length=draw(extent),
            key_length=draw(extent),
            head_dim=draw(extent),
            causal=draw(st.booleans()),
        )

    return st.one_of(
        attention(),
        st.builds(Matmul, m=extent, k=extent, n=extent, bias_gelu_tanh=st.booleans()),
        *(
            st.builds(norm, rows=extent, columns=extent, residual=st.booleans())
            for norm in (LayerNorm, RMSNorm)
        ),
        st.builds(Softmax, rows=extent, columns=extent),
        st.builds(CrossEntropy, rows=extent, vocabulary=extent, mean=st.booleans()),
        st.builds(
            Rotary,
            batch=extent,
            query_heads=extent,
            key_value_heads=extent,
            length=extent,
            head_dim=st.integers(1, 500).map(lambda half: 2 * half),
        ),
        st.builds(SwiGLU, tokens=extent, hidden=extent, inner=extent),
        st.builds(Embedding, tokens=extent, vocabulary=extent, hidden=extent),
    )


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes a run of one case: for each implementation the seconds of its blocks, each in 4 equal legs."""

    def write(
        path: Path,
        blocks: Mapping[str, Sequence[float]],
        *,
        failures: Sequence[Failure] = (),
        fields: Mapping[str, Any] | None = None,
        complete: bool = True,
    ) -> Path:
        legs = 4
        group = "layer_norm[64x128-float32-forward]"
        benchmarks = [
            Benchmark(
                name=f"layer_norm[64x128-float32-forward-{name}-wall]",
                group=group,
                seconds=np.repeat(np.asarray(seconds, dtype=np.float64), legs),
                block=np.repeat(np.arange(len(seconds)), legs),
                leg=np.tile(np.arange(legs), len(seconds)),
                operator="layer_norm",
                shape="64x128",
                dtype="float32",
                pass_="forward",
                implementation=name,
                framework="torch",
                device="cpu",
                baseline="torch.eager",
            )
            for name, seconds in blocks.items()
        ]
        fields = {"cpu": "imagined"} if fields is None else fields
        run = Run(
            source=str(path),
            suite="imagined",
            fingerprint=environment.fingerprint(fields),
            fingerprint_fields=fields,
            environment={},
            machine_info={},
            commit_info={},
            datetime="2026-11-23T08:00:00+00:00",
            complete=complete,
            benchmarks=tuple(benchmarks),
            failures=tuple(failures),
        )
        write_json(path, run_file.run_to_json(run))
        return path

    return write


@pytest.fixture(scope="session")
def a_benchmark() -> Callable[..., Benchmark]:
    return make_benchmark


@pytest.fixture(scope="session")
def a_run() -> Callable[..., Run]:
    return make_run


@pytest.fixture(scope="session")
def comparisons() -> Callable[..., list[Benchmark]]:
    return make_comparisons
