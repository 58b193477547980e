"""Read the Python that TorchInductor generates: the kernels one call launches, and what is fused in each.

Takes the text of an output code file (`torch._inductor.utils.run_and_get_code`, TORCH_LOGS=output_code) for
CPU (C++) and GPU (Triton); no framework is needed. Sizes are exact for static shapes, and for dynamic ones
those of the example inputs at the end of the file. Text without a `call` raises UserError in one line.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fuseproof.errors import UserError

_ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "bool": 1, "uint8": 1, "int8": 1, "int16": 2,
    "int32": 4, "int64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_ORIGINS = re.compile(r"Original ATen: \[([^\]]*)\]")
_CPP_PARAMETERS = re.compile(r"void\s+kernel\((.*?)\)", re.DOTALL)
# Operators of several words, longest first; a name joins operators with the same underscore.
_OPERATOR = re.compile(
    "(?:^|_)(native_layer_norm_backward|native_layer_norm|native_dropout_backward|native_dropout|gelu_backward"
    "|_softmax_backward_data|_log_softmax|_softmax|_to_copy|_unsafe_view|masked_fill|scalar_tensor|slice_backward"
    "|select_backward|threshold_backward|tanh_backward|sigmoid_backward|index_put|index_select|full_like"
    "|zeros_like|ones_like|logical_not|logical_and|bitwise_not|bitwise_and|_?[a-z0-9]+)(?=_|$)"
)
_LAST_WORD = re.compile(r"(\w+)\s*$")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch, in order. `generated`: Inductor wrote it; else a library call.

    members:    ATen operators fused into it, as far as Inductor names them.
    bytes:      of the tensors it takes and gives, each once, in-place ones twice: what has to move through
                memory if the kernel itself moves nothing twice. None if a size is unknown.
    loop_nests: of a C++ kernel: how many loop nests run one after the other in it, so passes over its data.
    """

    name: str
    generated: bool
    members: tuple[str, ...]
    bytes: int | None
    loop_nests: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Source:
    parameters: tuple[str, ...]
    loop_nests: int | None


@dataclass(kw_only=True)
class _State:
    """What is known of each name: a tensor's elements and bytes of an element, or a size."""

    tensors: dict[str, tuple[int, int]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)  # the first argument of the call it comes from


def kernels(code: str, *, source: str = "Inductor output code") -> tuple[Kernel, ...]:
    """The kernels that one call of the generated code launches, in order. Raises UserError."""
    try:
        module = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{source} is not Python ({error}); it is cut off or foreign") from None
    calls = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and (node.name == "call" or node.name.startswith("partition_"))
    ]
    if not calls:
        raise UserError(f"{source} defines no `call`; it is no Inductor output code")
    sources = {name: text for node in module.body for name, text in _definition(node)}
    lines = code.splitlines()
    state = _State()
    _example_inputs(module, state)
    found: list[Kernel] = []
    for function in calls:
        for statement in _statements(function.body):
            found += _launch(statement, state, sources, lines)
            _learn(statement, state)
    return tuple(found)


def _definition(node: ast.stmt) -> Iterator[tuple[str, _Source]]:
    """`name = async_compile.cpp_pybinding(types, source)` and `name = async_compile.triton(name, source)`."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
        return
    function, target = _dotted(node.value.func), node.targets[0]
    if not function.startswith("async_compile.") or not isinstance(target, ast.Name):
        return
    texts = [a.value for a in node.value.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    text = max(texts, key=len, default="")
    if function.startswith("async_compile.cpp"):
        match = _CPP_PARAMETERS.search(text)
        parts = match[1].split(",") if match else []
        names = tuple(last[1] for part in parts if (last := _LAST_WORD.search(part)))
        yield target.id, _Source(parameters=names, loop_nests=_loop_nests(text))
        return
    match = re.search(rf"def {re.escape(texts[0] if texts else target.id)}\((.*?)\):", text, re.DOTALL)
    parts = match[1].split(",") if match else []
    yield target.id, _Source(parameters=tuple(p.partition(":")[0].strip() for p in parts), loop_nests=None)


def _loop_nests(text: str) -> int:
    """How many outermost loops a C++ kernel has; parallel regions around them do not count."""
    nests, depth, opened = 0, 0, False
    inside: int | None = None  # the depth of braces outside the outermost loop we are in
    for line in text.splitlines():
        if inside is None and re.match(r"\s*for\s*\(", line):
            nests, inside, opened = nests + 1, depth, False
        before = depth
        depth += line.count("{") - line.count("}")
        if inside is not None:
            opened = opened or depth > before
            if opened and depth <= inside:
                inside = None
    return nests


def _example_inputs(module: ast.Module, state: _State) -> None:
    """`get_args` (or an older file's benchmark function) makes each input: the only place with its dtype."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name in ("get_args", "benchmark_compiled_module"):
            for statement in node.body:
                _learn(statement, state)


def _learn(statement: ast.stmt, state: _State) -> None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        # An assertion is what tells the size of one result of a library call.
        if _dotted(call.func) == "assert_size_stride" and isinstance(call.args[0], ast.Name):
            name = call.args[0].id
            elements = _elements(call.args[1], state)
            if name not in state.tensors and name in state.results and elements is not None:
                like = state.tensors.get(state.results[name])
                if like is not None:
                    state.tensors[name] = (elements, like[1])
        return
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return
    name, value = statement.targets[0].id, statement.value
    number = _number(value, state)
    if number is not None:
        state.numbers[name] = number
    elif isinstance(value, ast.Name) and value.id in state.tensors:
        state.tensors[name] = state.tensors[value.id]
    elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
        state.results[name] = state.results.get(value.value.id, "")
    elif isinstance(value, ast.Call):
        _learn_call(name, value, state)


def _learn_call(name: str, call: ast.Call, state: _State) -> None:
    function = _dotted(call.func)
    if function.startswith(("empty_strided", "rand_strided")) and call.args:
        elements = _elements(call.args[0], state)
        dtypes = [_dotted(k.value) for k in call.keywords if k.arg == "dtype"]
        dtypes += [_dotted(argument) for argument in call.args[2:]]
        names = [dtype.removeprefix("torch.") for dtype in dtypes]
        item = next((_ITEM_BYTES[known] for known in names if known in _ITEM_BYTES), 0)
        if elements is not None and item:
            state.tensors[name] = (elements, item)
    elif function in ("reinterpret_tensor", "alloc_from_pool") and isinstance(call.args[0], ast.Name):
        elements, base = _elements(call.args[1], state), state.tensors.get(call.args[0].id)
        if elements is not None and base is not None:
            state.tensors[name] = (elements, base[1])
    else:
        state.results[name] = next((a.id for a in call.args if isinstance(a, ast.Name)), "")


def _launch(
    statement: ast.stmt, state: _State, sources: Mapping[str, _Source], lines: list[str]
) -> Iterator[Kernel]:
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if not isinstance(value, ast.Call):
        return
    function = _dotted(value.func)
    name = function.removesuffix(".run")
    if name in sources:
        source = sources[name]
        yield Kernel(
            name=name,
            generated=True,
            members=_origins(statement, lines) or _named_members(name),
            bytes=_bytes(value, source.parameters, state),
            loop_nests=source.loop_nests,
        )
    elif function.startswith(("extern_kernels.", "torch.ops.")):
        # `torch.ops.aten.x.default` is written back to front for a reader: what runs comes first.
        parts = function.removeprefix("torch.ops.").removeprefix("extern_kernels.").split(".")
        short = ".".join(parts[:-1]) if len(parts) > 2 else ".".join(parts)
        yield Kernel(
            name=short,
            generated=False,
            members=_origins(statement, lines),
            bytes=_bytes(value, (), state),
        )


def _origins(statement: ast.stmt, lines: list[str]) -> tuple[str, ...]:
    """The operators of the comment above a launch."""
    for number in range(statement.lineno - 2, max(-1, statement.lineno - 40), -1):
        line = lines[number].strip()
        if not line.startswith(("#", "stream")):  # on a GPU the stream is fetched between the two
            break
        if match := _ORIGINS.search(line):
            return tuple(part.strip().removeprefix("aten.") for part in match[1].split(",") if part.strip())
    return ()


def _named_members(name: str) -> tuple[str, ...]:
    """What a C++ kernel's name, `cpp_fused_add_mean_0`, says is in it: sorted, at most ten."""
    match = re.fullmatch(r".*?_fused_(.*?)_\d+", name)
    return tuple(_OPERATOR.findall(match[1])) if match else ()


def _bytes(call: ast.Call, parameters: tuple[str, ...], state: _State) -> int | None:
    total, known = 0, False
    for index, argument in enumerate(call.args):
        tensor = state.tensors.get(_tensor_name(argument))
        if tensor is not None:
            in_place = index < len(parameters) and parameters[index].startswith("in_out_ptr")
            total += math.prod(tensor) * (2 if in_place else 1)
            known = True
    for keyword in call.keywords:
        tensor = state.tensors.get(_tensor_name(keyword.value))
        if tensor is not None:
            total += math.prod(tensor)
            known = True
    return total if known else None


def _tensor_name(node: ast.expr) -> str:
    """The tensor an argument is or views: the view of a weight reads that weight."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and _dotted(node.func) == "reinterpret_tensor":
        return _tensor_name(node.args[0])
    return ""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """In the order they run; the device guard around the launches on a GPU is looked through."""
    for statement in body:
        if isinstance(statement, ast.With | ast.If | ast.For):
            yield from _statements(statement.body)
        else:
            yield statement


def _elements(node: ast.expr, state: _State) -> int | None:
    if not isinstance(node, ast.Tuple):
        return None
    extents = [_number(element, state) for element in node.elts]
    known = [extent for extent in extents if extent is not None]
    return math.prod(known) if len(known) == len(extents) else None


def _number(node: ast.expr, state: _State) -> int | None:
    """An integer, a symbol whose value is known, or arithmetic on them."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return state.numbers.get(name)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _number(left, state), _number(right, state)
            if a is None or b is None:
                return None
            match operator:
                case ast.Mult():
                    return a * b
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.FloorDiv() if b:
                    return a // b
    return None


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            return f"{_dotted(value)}.{attribute}"
    return ""
