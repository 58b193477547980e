"""Read the Python that TorchInductor generates: the kernels one call launches, and what is fused in each.

Takes the text of an `output_code.py`, which `torch._inductor.config.trace` and TORCH_COMPILE_DEBUG=1 write,
for CPU (C++) and GPU (Triton); no framework is needed. Sizes are exact for static shapes, and for dynamic
ones those of the example inputs at the end of the file. Other text raises UserError in one line.

What is fused in a kernel: above the launch of a Triton kernel stand its ATen operators. A C++ kernel has no
such comment, only a name made of at most ten of them, sorted. Each operator stands there once, however often
the kernel computes it.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fuseproof.errors import UserError
from fuseproof.fusion.programs.inductor_kernels import definition, dotted
from fuseproof.fusion.programs.operations import Operation

_ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "bool": 1, "uint8": 1, "int8": 1, "int16": 2,
    "int32": 4, "int64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
# Operators with an underscore in their own name, as names of kernels join them; a caller may know more.
_SEVERAL_WORDS = (
    "native_layer_norm", "native_layer_norm_backward", "native_dropout", "native_dropout_backward",
    "gelu_backward", "tanh_backward", "sigmoid_backward", "threshold_backward", "select_backward",
    "slice_backward", "masked_fill", "scalar_tensor", "index_put", "index_select", "full_like", "zeros_like",
    "ones_like", "logical_not", "logical_and", "bitwise_not", "bitwise_and", "_to_copy", "_unsafe_view",
    "_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward",
)  # fmt: skip
_ORIGINS = re.compile(r"Original ATen: \[([^\]]*)\]")
# Arguments that are sizes or streams, not tensors.
_SIZE = re.compile(r"k?s\d+|u\d+|\w*numel\w*|\w*stream\w*")
# Between the comments and the launch of a kernel a GPU's stream may be fetched.
_ABOVE_A_LAUNCH = re.compile(r"#|\w*stream\w* = ")
# Attention's second result, the logarithm of the sum of its weights, is float32 for every dtype of the inputs
# (torch/_meta_registrations.py); any other result of a library call has the dtype of its first input.
_FLOAT32_SECOND = re.compile(r"_scaled_dot_product_\w*(?<!_backward)")


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    elements: int
    item_bytes: int

    @property
    def bytes(self) -> int:
        return self.elements * self.item_bytes


@dataclass(kw_only=True)
class _Launch:
    name: str
    generated: bool
    members: tuple[str, ...]
    loop_nests: int | None
    bytes: int | None
    item_bytes: int | None  # of the first tensor it takes


def kernels(
    code: str, *, source: str = "Inductor output code", operators: Collection[str] = ()
) -> tuple[Operation, ...]:
    """The kernels and library calls that one call of the generated code launches, in order.

    bytes: of the tensors that each takes and gives, once each, twice if changed in place. This moves through
    memory if the kernel itself moves nothing twice (see `Operation.loop_nests`); None if a size is unknown.
    operators: names of ATen operators, to separate them in names of C++ kernels. Raises UserError.
    """
    try:
        module = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"{source} is not Python ({reason}): it is cut off or foreign") from None
    calls = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and re.fullmatch(r"call|partition_\d+", node.name)
    ]
    if not calls or "async_compile" not in code:
        raise UserError(f"{source} defines no `call` of Inductor's: it is other Python, or cut off")
    for function in calls:
        if not any(isinstance(node, ast.Return) for node in ast.walk(function)):
            raise UserError(f"{source} is cut off: `{function.name}` does not return; give the whole file")
    reader = _Reader(module, code.splitlines(), _words(tuple(operators) or _SEVERAL_WORDS))
    for function in sorted(calls, key=lambda node: node.lineno):
        for statement in _statements(function.body):
            reader.read(statement)
    return tuple(
        Operation(
            name=launch.name,
            kind="fusion" if launch.generated else "library",
            members=launch.members,
            bytes=launch.bytes,
            loop_nests=launch.loop_nests,
        )
        for launch in reader.launches
    )


class _Reader:
    """Goes through the statements of `call` in order and learns the sizes of tensors on the way."""

    def __init__(self, module: ast.Module, lines: list[str], words: re.Pattern[str]) -> None:
        self._lines, self._words = lines, words
        self._sources = {name: text for node in module.body for name, text in definition(node)}
        self._tensors: dict[str, _Tensor] = {}
        self._numbers: dict[str, int] = {}
        # Memory by the name it got when it was allocated, and such memory that nothing has written yet.
        self._storage: dict[str, str] = {}
        self._unwritten: set[str] = set()
        # Results of library calls: the call, and which of its results the name stands for if it has several.
        self._results: dict[str, tuple[_Launch, int | None]] = {}
        self.launches: list[_Launch] = []
        # The only place where inputs have a dtype: functions that make example inputs.
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.name in ("get_args", "benchmark_compiled_module"):
                for statement in node.body:
                    self._learn(statement)

    def read(self, statement: ast.stmt) -> None:
        launch = self._launch(statement)
        if launch is not None:
            self.launches.append(launch)
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                self._results[statement.targets[0].id] = (launch, None)
        else:
            self._learn(statement)

    def _launch(self, statement: ast.stmt) -> _Launch | None:
        call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        if not isinstance(call, ast.Call):
            return None
        function = dotted(call.func)
        name = function.removesuffix(".run")
        generated = self._sources.get(name)
        if generated is None and not function.startswith(("extern_kernels.", "torch.ops.")):
            return None
        parameters = generated.parameters if generated else ()
        members = self._origins(statement)
        if generated:
            members = members or self._named_members(name)
        else:
            name = re.sub(r"^(?:torch\.ops|extern_kernels)\.|\.default$", "", name)
        moved, first = self._moved(call, parameters)
        return _Launch(
            name=name,
            generated=generated is not None,
            members=members,
            loop_nests=generated.loop_nests if generated else None,
            bytes=moved,
            item_bytes=first,
        )

    def _origins(self, statement: ast.stmt) -> tuple[str, ...]:
        """The operators in the comment above a launch."""
        for line in map(str.strip, reversed(self._lines[: statement.lineno - 1])):
            if not _ABOVE_A_LAUNCH.match(line):
                break
            if match := _ORIGINS.search(line):
                return tuple(
                    part.strip().removeprefix("aten.") for part in match[1].split(",") if part.strip()
                )
        return ()

    def _named_members(self, name: str) -> tuple[str, ...]:
        match = re.fullmatch(r".*?_fused_(.*?)_\d+", name)
        return tuple(self._words.findall(match[1])) if match else ()

    def _moved(self, call: ast.Call, parameters: tuple[str, ...]) -> tuple[int | None, int | None]:
        """Bytes of all tensors among the arguments, and the item size of the first of them."""
        total, seen, first = 0, set(), None
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        for index, argument in enumerate(arguments):
            base, text = _base(argument), ast.unparse(argument)
            if base is None or base in self._numbers or _SIZE.fullmatch(base) or text in seen:
                continue
            tensor = self._tensor(argument)
            if tensor is None:
                return None, first
            seen.add(text)
            first = first or tensor.item_bytes
            storage = self._storage.get(base, base)
            in_place = index < len(parameters) and parameters[index].startswith("in_out_ptr")
            # A buffer that the kernel writes first and then reads has this name too.
            total += tensor.bytes * (2 if in_place and storage not in self._unwritten else 1)
            self._unwritten.discard(storage)
        return (total if seen else None), first

    def _tensor(self, node: ast.expr) -> _Tensor | None:
        """The tensor an argument is, or of a view the part of it that is read."""
        if isinstance(node, ast.Name):
            return self._tensors.get(node.id)
        if not isinstance(node, ast.Call) or len(node.args) < 3:
            return None
        base, sizes, strides = self._tensor(node.args[0]), node.args[1], node.args[2]
        if base is None or not isinstance(sizes, ast.Tuple) or not isinstance(strides, ast.Tuple):
            return None
        # Along a stride of 0 the same elements are read again.
        moving = [
            size for size, stride in zip(sizes.elts, strides.elts, strict=True) if self._number(stride) != 0
        ]
        elements = self._elements(ast.Tuple(elts=moving))
        return None if elements is None else _Tensor(elements=elements, item_bytes=base.item_bytes)

    def _learn(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if dotted(call.func) == "assert_size_stride" and isinstance(call.args[0], ast.Name):
                self._learn_result(call.args[0].id, self._elements(call.args[1]))
            return
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return
        name, value = statement.targets[0].id, statement.value
        number = self._number(value)
        if number is not None:
            self._numbers[name] = number
        elif isinstance(value, ast.Name) and value.id in self._tensors:
            self._tensors[name] = self._tensors[value.id]
            self._storage[name] = self._storage.get(value.id, value.id)
        elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
            launch, _ = self._results.get(value.value.id, (None, None))
            if launch is not None:
                self._results[name] = (launch, self._number(value.slice))
        elif isinstance(value, ast.Call):
            self._learn_tensor(name, value)

    def _learn_tensor(self, name: str, call: ast.Call) -> None:
        function = dotted(call.func)
        if function.startswith(("empty_strided", "rand_strided")) and call.args:
            elements = self._elements(call.args[0])
            dtypes = [dotted(k.value) for k in call.keywords if k.arg == "dtype"]
            dtypes += [dotted(argument) for argument in call.args[2:]]
            sizes = [_ITEM_BYTES.get(dtype.removeprefix("torch.")) for dtype in dtypes]
            item = next((size for size in sizes if size), None)
            if elements is not None and item is not None:
                self._tensors[name] = _Tensor(elements=elements, item_bytes=item)
                if function.startswith("empty_strided"):
                    self._unwritten.add(name)
        elif function in ("reinterpret_tensor", "alloc_from_pool"):
            tensor = self._tensor(call)
            if tensor is not None:
                self._tensors[name] = tensor
            if (base := _base(call)) is not None:
                self._storage[name] = self._storage.get(base, base)

    def _learn_result(self, name: str, elements: int | None) -> None:
        """Learn the size of a library call's result, which only an assertion states: the call wrote it."""
        launch, index = self._results.get(name, (None, None))
        if launch is None or elements is None or name in self._tensors or launch.item_bytes is None:
            return
        item = 4 if index == 1 and _FLOAT32_SECOND.search(launch.name) else launch.item_bytes
        self._tensors[name] = _Tensor(elements=elements, item_bytes=item)
        if launch.bytes is not None:
            launch.bytes += self._tensors[name].bytes

    def _elements(self, node: ast.expr) -> int | None:
        if not isinstance(node, ast.Tuple):
            return None
        extents = [self._number(element) for element in node.elts]
        known = [extent for extent in extents if extent is not None]
        return math.prod(known) if len(known) == len(extents) else None

    def _number(self, node: ast.expr) -> int | None:
        """An integer, a symbol whose value is known, or arithmetic on them."""
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name):
                return self._numbers.get(name)
            case ast.BinOp(left=left, op=operator, right=right):
                a, b = self._number(left), self._number(right)
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


@functools.lru_cache(maxsize=4)
def _words(operators: tuple[str, ...]) -> re.Pattern[str]:
    """Finds operators in a name that joins them: the longest known one, else one word."""
    several = sorted((name for name in operators if "_" in name), key=len, reverse=True)
    return re.compile(f"(?:^|_)({'|'.join([*map(re.escape, several), '_?[a-z0-9]+'])})(?=_|$)")


def _base(node: ast.expr) -> str | None:
    """The name of the tensor an argument is or views."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and dotted(node.func) == "reinterpret_tensor":
        return _base(node.args[0])
    return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """In the order they run, with those inside the device guard around the launches on a GPU."""
    for statement in body:
        if isinstance(statement, ast.With | ast.If | ast.For):
            yield from _statements(statement.body)
        else:
            yield statement
