"""`fuseproof.compare`: functions of a Python session, measured as `fuseproof run` measures."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.api import functions
from fuseproof.api.comparison import Comparison
from fuseproof.api.functions import Variant
from fuseproof.cases import CACHES, Case
from fuseproof.errors import UserError, require_known
from fuseproof.implementations import Implementation, framework_of
from fuseproof.implementations.loading import PICKLE
from fuseproof.measure import describing, display, planning, reasons, runner
from fuseproof.measure.progress import Progress
from fuseproof.profiling.capture import stage
from fuseproof.runs import directory as run_directory
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory
from fuseproof.suites import Suite
from fuseproof.workloads import arguments as named_arguments
from fuseproof.workloads import trees
from fuseproof.workloads.captured import Captured, CapturedModule
from fuseproof.workloads.described import Described
from fuseproof.workloads.modules import Module
from fuseproof.workloads.tensor import ALL_PASSES, DTYPES, MODULE_PASSES

_NAME = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)
# The fewest blocks that have an interval which is not much too wide: t of 2 degrees of freedom.
_LEAST_BLOCKS = 3
_MOST_BLOCKS = 50


def compare(
    functions_by_name: Mapping[str, Callable[..., Any] | Variant],
    *,
    inputs: Any,
    baseline: str | None = None,
    reference: Callable[..., Any] | str | None = None,
    passes: Sequence[str] | str | None = None,
    differentiable: Sequence[str] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    cache: str = "warm",
    blocks: int | None = None,
    seconds: float | None = None,
    palindromes: int | None = None,
    precision: float | None = None,
    threads: int | None = None,
    flops: int | None = None,
    bytes: int | None = None,
    optimizer: Mapping[str, Any] | None = None,
    name: str = "compare",
    directory: str | Path | None = None,
    profile: bool = False,
    progress: Progress | bool = True,
) -> Comparison:
    """Which function is faster, by how much, and whether they give the same results.

    Each is measured in a fresh process of its own, in turns, block by block; it travels there by value, also
    from a notebook. Nothing that gives a wrong result gets a speedup.

    functions_by_name: at least two functions that take the same arguments; a `Variant` where the framework or
        the compile mode of one cannot be seen.
    inputs:      the arguments, a mapping by name or a tuple by position, of arrays (of any framework) and of
        what is no array; nested in dictionaries, lists and tuples as you like. Or a function of a seed that
        returns them: then every leg has new values, and a result that was kept from before is caught.
    baseline:    what the others are compared with; by default the first.
    reference:   what is right: a NumPy function of the same arguments in float64, or the name of a function,
        which is computed in float64; by default the baseline.
    passes:      `forward` (the default) and `forward_backward` (with the gradients of `differentiable`). Of
        modules (see `fuseproof.Module`), if all are, `inference` (the default) and `training_step`; their
        parameters are then drawn, and a step is one of `optimizer`. In the passes of functions a module is a
        function with constant parameters.
    differentiable: the inputs that get a gradient, nested ones by `outer.inner`; by default all real ones.
    dtype:       of the case: float32, float16 or bfloat16; by default that of the inputs, float32 of float64.
    cache:       `warm`, or `cold` for inputs that no cache holds.
    blocks:      of fresh processes; by default 5.
    seconds:     stop after the block in which so many have passed, or before, when `precision` is reached.
    precision:   half-width of the 95 % intervals that is enough, as a share: 0.02.
    flops, bytes: of a forward pass, if you have counted them: rates are then shown, and times that no machine
        could reach are refused.
    directory:   of the run, which `load` reads again; by default a new one under .fuseproof/runs.
    profile:     count the kernels of a call afterwards.
    progress:    False for none.

    Raises UserError for what cannot be compared, in one line. KeyboardInterrupt passes through; what was
    measured is then in the directory, for `load`.
    """
    names = list(functions_by_name)
    if len(names) < 2:
        raise UserError("compare takes at least two functions by name, such as {'eager': f, 'compiled': g}")
    baseline = names[0] if baseline is None else baseline
    require_known("function", [baseline], names)
    if not _NAME.fullmatch(name):
        raise UserError(f"name {name!r}: use letters, digits and underscores, a letter first")
    modules = all(functions.is_module(each) for each in functions_by_name.values())
    if passes is None:
        passes = ("inference",) if modules else ("forward",)
    chosen = (passes,) if isinstance(passes, str) else tuple(passes)
    require_known("pass", chosen, ALL_PASSES)
    of_modules = [each for each in chosen if each in MODULE_PASSES]
    if of_modules and (not modules or len(of_modules) < len(chosen)):
        raise UserError(
            f"the pass {of_modules[0]} is one of modules: give modules only, and no pass of functions beside "
            "it"
        )
    require_known("cache regime", [cache], CACHES)
    path = run_directory.new_folder(name) if directory is None else Path(directory)
    if (path / "plan.json").exists():
        raise UserError(
            f"{path} holds a run already; read it with fuseproof.load, or choose another directory"
        )
    folder = path.absolute() / "functions"
    arguments = _Arguments.of(inputs, functions_by_name[baseline])
    implementations = [
        replace(
            functions.implementation(
                key,
                given,
                workload=name,
                folder=folder,
                framework=arguments.framework,
                as_module=bool(of_modules),
            ),
            baseline=baseline,
        )
        for key, given in functions_by_name.items()
    ]
    stands_for_right = baseline if reference is None or callable(reference) else reference
    require_known("function", [stands_for_right], names)
    described = _describe(
        name,
        arguments,
        kind=CapturedModule if of_modules else Captured,
        folder=folder,
        forward=reference if callable(reference) else None,
        right=next(each for each in implementations if each.name == stands_for_right),
        dtype=dtype or arguments.dtype,
        passes=chosen,
        differentiable=None if differentiable is None else tuple(differentiable),
        flops=flops,
        bytes_=bytes,
        optimizer=(optimizer or Module.optimizer) if of_modules else None,
    )
    settings = planning.settings_for(
        Suite(name=name, summary="", cases=()),
        device=device,
        threads=threads or len(environment.usable_cpus()),
        blocks=blocks or (_LEAST_BLOCKS if seconds else None),
        max_blocks=_MOST_BLOCKS if seconds else blocks,
        palindromes=palindromes,
        profile=profile,
        **({} if precision is None else {"precision": precision}),
        **({} if seconds is None else {"seconds": float(seconds)}),
    )
    plan = planning.of_cases(
        name,
        [Case(workload=described, dtype=described.dtypes[0], pass_=pass_, cache=cache) for pass_ in chosen],
        implementations,
        settings,
        command=["fuseproof.compare"],
    )
    reasons.refuse_absent_device(plan)
    with _shown(progress) as shown:
        found = runner.run(RunDirectory.create(plan, path), shown, stage)
    return Comparison(found, directory=path)


@contextlib.contextmanager
def _shown(progress: Progress | bool) -> Iterator[Progress]:
    from rich.console import Console

    if not isinstance(progress, bool):
        yield progress
        return
    with display.progress(Console(quiet=not progress, stderr=True)) as shown:
        yield shown


def _describe(
    name: str,
    arguments: _Arguments,
    *,
    kind: type[Captured],
    folder: Path,
    forward: Callable[..., Any] | None,
    right: Implementation,
    dtype: str,
    **more: Any,
) -> Described:
    """The workload, written into the folder and described; in the case's dtype if there is no float64."""
    require_known("dtype", [dtype], DTYPES)
    file = folder / f"workload{PICKLE}"
    reasons = []
    for reference_dtype in ("float64", ""):
        workload = kind.capture(
            name,
            arguments.draw,
            forward=forward,
            reference_by="" if forward else right.name,
            reference_dtype=reference_dtype,
            dtype=dtype,
            input_dtypes=arguments.dtypes_beside(dtype),
            **more,
        )
        parts = (forward, arguments.given)
        functions.write(file, {"workload": workload}, of="the inputs or the reference", with_=parts)
        try:
            wanted = describing.Wanted(
                target=f"{file}:workload",
                labels=(workload.label,),
                reference=None if forward else right,
                given=True,
                notes=tuple(arguments.notes),
            )
            (found,) = describing.describe([wanted])
            return found
        except UserError as error:
            reasons.append(str(error).removeprefix(f"{file}:workload: "))
            if forward or "the reference" not in str(error):
                break
    raise UserError(reasons[0])


class _Arguments:
    """What `inputs` gives, as NumPy arrays by argument."""

    def __init__(self, given: Any, names: Sequence[str]) -> None:
        self.given = given
        self._names = list(names)
        first = self.draw(np.random.default_rng(0))
        original = trees.flatten(self._named(self._raw(0)))
        kinds = {found for leaf in original.values() if (found := framework_of.tensor(leaf))}
        if len(kinds) > 1:
            raise UserError(f"the inputs are tensors of {' and '.join(sorted(kinds))}; give them in one")
        self.framework = kinds.pop() if kinds else ""
        self._own = {key: _dtype_name(leaf) for key, leaf in original.items()}
        floats = dict.fromkeys(own for own in self._own.values() if own in DTYPES)
        self.dtype = next(iter(floats), "float32")
        if not trees.flatten(first):
            raise UserError("the inputs hold no array; there is nothing to compute with")
        fixed = (
            ""
            if callable(given)
            else "the inputs are the same in every call; a function of a seed gives new ones"
        )
        self.notes = (fixed,) if fixed else ()

    @classmethod
    def of(cls, given: Any, function: Any) -> _Arguments:
        """Arguments with the names that the function's parameters have, where they are given by position."""
        function = function.function if isinstance(function, Variant) else function
        if functions.is_pair(function):
            function = functools.partial(function[1], None)  # apply takes the parameters first
        return cls(given, named_arguments.parameters(function))

    def draw(self, generator: np.random.Generator) -> Mapping[str, Any]:
        """The arguments of a draw."""
        named = self._named(self._raw(int(generator.integers(2**31))))
        return {key: _in_numpy(value) for key, value in named.items()}

    def dtypes_beside(self, dtype: str) -> dict[str, str]:
        """Inputs of real numbers in another dtype than the case's."""
        return {
            key: own for key, own in self._own.items() if own in DTYPES and own not in (dtype, self.dtype)
        }

    def _raw(self, seed: int) -> Any:
        return self.given(seed) if callable(self.given) else self.given

    def _named(self, raw: Any) -> dict[str, Any]:
        return named_arguments.named(raw, self._names)


def _dtype_name(leaf: Any) -> str:
    """`float32` for any framework's; float64 counts as float32, the widest that is measured."""
    found = str(getattr(leaf.dtype, "name", leaf.dtype)).removeprefix("torch.")
    return "float32" if found == "float64" else found


def _in_numpy(tree: Any) -> Any:
    """A tree of arrays of any framework as one of NumPy's, real numbers as float32 or wider."""
    if isinstance(tree, Mapping):
        return {str(key): _in_numpy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [_in_numpy(value) for value in tree]
        return parts if isinstance(tree, list) else tuple(parts)
    return _array(tree) if trees.is_tensor(tree) else tree


def _array(leaf: Any) -> NDArray[Any]:
    if framework_of.tensor(leaf) == "torch":
        leaf = leaf.detach().cpu()
        leaf = (leaf.float() if leaf.is_floating_point() else leaf).numpy()
    array = np.asarray(leaf)
    # ml_dtypes' bfloat16 is of no kind that NumPy knows.
    return array.astype(np.float32) if array.dtype.kind in "fV" else array
