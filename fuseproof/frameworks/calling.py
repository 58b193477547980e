"""How a target is called: as its users call it, arguments by position in the workload's order."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseproof.child_process import PlainError
from fuseproof.workloads import trees
from fuseproof.workloads.modules import State
from fuseproof.workloads.workload import Workload

# Why no result of a training step that does can be compared.
DRAWS_RANDOM_NUMBERS = (
    "it draws random numbers in a training step, such as those of dropout: they would be others in float64; "
    "set the rate to 0"
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a call takes and gives.

    arguments:      by name, each the skeleton of its tensors' names.
    options:        keyword arguments that are no tensors.
    differentiable: tensors that get a gradient in a backward pass.
    cotangents:     outputs that a backward pass starts from.
    """

    arguments: Mapping[str, trees.Skeleton]
    options: Mapping[str, object] = field(default_factory=dict)
    differentiable: tuple[str, ...] = ()
    cotangents: tuple[str, ...] = (trees.OUTPUT,)

    @classmethod
    def of(cls, workload: Workload) -> Signature:
        return cls(
            arguments=workload.arguments,
            options=workload.options,
            differentiable=workload.differentiable,
            cotangents=tuple(workload.cotangents),
        )

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of all tensors, in order."""
        return tuple(name for nesting in self.arguments.values() for name in trees.names(nesting))

    @property
    def is_plain(self) -> bool:
        """Whether every argument is a tensor of its own name, and the one output too."""
        return self.cotangents == (trees.OUTPUT,) and all(
            nesting == name for name, nesting in self.arguments.items()
        )

    def filled(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments made of these tensors."""
        return {name: trees.fill(nesting, tensors) for name, nesting in self.arguments.items()}

    def started(self, output: Any) -> list[Any]:
        """The outputs of a call that a backward pass starts from. Raises KeyError if one is missing."""
        found = trees.results(output)
        return [found[name] for name in self.cotangents]

    def named(self, output: Any, gradients: Sequence[Any]) -> dict[str, Any]:
        """Outputs and gradients by name."""
        names = (f"grad_{name}" for name in self.differentiable)
        return trees.results(output) | dict(zip(names, gradients, strict=True))


def by_position(function: Callable[..., Any], names: Sequence[str]) -> int:
    """How many of the inputs `names`, from the first, the function takes by position; the rest by keyword.

    An input goes by keyword, with all after it, where the function's parameter in its place is keyword-only,
    does not exist, or has another name and means something else: it has a default, or the input's name or
    this one occurs in both. A name of the author's own is as good as ours. A function without a signature,
    such as one written in C, gets all by position.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return len(names)
    own_names = {parameter.name for parameter in parameters}
    taken = 0
    for name, parameter in zip(names, parameters, strict=False):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return len(names)
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        if parameter.name != name and (
            parameter.name in names or name in own_names or parameter.default is not parameter.empty
        ):
            break
        taken += 1
    return taken


def positional(function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """A function of the tensors alone, in their order; for a compiler, which sees through it.

    Its signature has no other parameters: tf.function binds each at every call, also one that has a default
    and is not given (80 µs).
    """
    names, options = list(signature.arguments), signature.options
    taken = by_position(function, names)

    def call(*tensors: Any) -> Any:
        named = dict(zip(names[taken:], tensors[taken:], strict=True))
        return function(*tensors[:taken], **named, **options)

    def call_nested(*tensors: Any) -> Any:
        arguments = signature.filled(dict(zip(signature.tensors, tensors, strict=True)))
        return bound(function, taken, arguments, options)()

    chosen = call if signature.is_plain else call_nested
    # The name shows in programs and traces. Not functools.wraps: AutoGraph would call what it wraps instead.
    chosen.__name__ = getattr(function, "__name__", call.__name__)
    return with_parameters(chosen, [identifier(name) for name in signature.tensors])


def identifier(name: str) -> str:
    """A name of a tensor as a parameter may be called."""
    return re.sub(r"\W", "_", name)


def made(
    target: Any,
    fields: Mapping[str, object],
    is_module: Callable[[Any], bool],
    wanted: str,
    why_not: Callable[[Any], str] = lambda found: "",
) -> Any:
    """The module that a target is or makes: a class or a function takes those of the fields that it names.

    wanted, why_not: for the message: what a module is, and more about what was found instead.
    Raises PlainError for a target that is and makes none.
    """
    if is_module(target):
        return target
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = {each.name for each in parameters}
    every = any(each.kind is each.VAR_KEYWORD for each in parameters)
    found = target(**{name: value for name, value in fields.items() if every or name in names})
    if not is_module(found):
        raise PlainError(
            f"the target of a module must be {wanted}, or make one, not a {type(found).__name__}"
            f"{why_not(found)}"
        )
    return found


def refuse_other_state(shapes: Mapping[str, tuple[int, ...]], buffers: Iterable[str], state: State) -> None:
    """Raise PlainError if the parameters of a module, given by their shapes, or its buffers are not those of
    the reference.
    """
    pairs = (("parameters", set(shapes), state.parameters), ("buffers", set(buffers), state.buffers))
    for what, own, expected in pairs:
        if odd := sorted(own ^ expected.keys()):
            more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
            raise PlainError(
                f"its {what} are not those of the reference: {', '.join(odd[:3])}{more} in one and not in "
                "the other"
            )
    for name, (shape, _, _) in state.parameters.items():
        if shapes[name] != tuple(shape):
            raise PlainError(f"its parameter {name} has shape {shapes[name]} instead of {tuple(shape)}")


def with_parameters(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """The function, which takes any number of tensors, as one of exactly these parameters to a compiler."""
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return function


def own_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a code object of its own, if it is written in Python.

    PyTorch keeps what it compiled by code object and tries one after the other at each call: the second
    `torch.compile` of a function would be 4 % slower at 40 µs.
    """
    if not isinstance(function, types.FunctionType):
        return function
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def bound(
    function: Callable[..., Any],
    taken: int,
    arguments: Mapping[str, Any],
    options: Mapping[str, object],
) -> Callable[[], Any]:
    """A call of the function with these arguments: the first `taken` by position."""
    names = list(arguments)
    return functools.partial(
        function,
        *(arguments[name] for name in names[:taken]),
        **{name: arguments[name] for name in names[taken:]},
        **options,
    )
