"""Which kernels of one timeline became which of another, from the evidence in the traces; nothing is guessed.

Two kernels are joined, in this order,

1. by name, without the number at its end: `matched`. A name that does not say what is computed, such as XLA's
   `fusion`, joins only if nothing else is known of both kernels, and the row says so.
2. by a framework operator in common. The operators of a kernel before are those that its launch is nested in,
   and those in its HLO metadata. The operators of a kernel after are those in its name
   (Inductor: `triton_poi_fused_add_gelu_0`, `graph_0_cpp_fused_add_gelu_0`; XLA: `add_rsqrt_fusion`, the last
   operations of the fusion), or else those of its launch and metadata. All kernels that such joins connect
   are one row: `merged` if there are fewer kernels after than before, else `matched`.

The other kernels are `only-before` and `only-after`. They may be related too: XLA's name `fusion.4` does not
say what it computes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fuseproof.profiling.analysis.kernels import Kernel, NamedKernel, Side, Window, gather
from fuseproof.profiling.timeline.model import Timeline
from fuseproof.units import TimeUnit, duration, number

Relation = Literal["merged", "only-before", "only-after", "matched"]
RELATIONS: Final[tuple[Relation, ...]] = ("merged", "only-before", "only-after", "matched")

# Operators that only name or regroup memory: sharing one of them does not join two kernels.
_VIEWS: Final = frozenset(
    ("t", "transpose", "permute", "as_strided", "view", "_unsafe_view", "reshape", "expand", "empty",
     "empty_like", "empty_strided", "resolve_conj", "resolve_neg", "detach", "slice", "select", "unsqueeze",
     "squeeze", "alias", "to", "_to_copy", "contiguous", "copy", "clone", "fill", "zero")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """Kernels that became others. `joined_by` is the evidence in words; empty if one side is empty."""

    relation: Relation
    before: tuple[Kernel, ...] = ()
    after: tuple[Kernel, ...] = ()
    joined_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two timelines compared."""

    before: Side
    after: Side
    rows: tuple[Row, ...]  # by relation, in the order of RELATIONS; the longest first

    def count(self, relation: Relation) -> tuple[float, float]:
        """Kernels per call before and after in the rows of a relation."""
        rows = [row for row in self.rows if row.relation == relation]
        return sum(k.count for row in rows for k in row.before), sum(
            k.count for row in rows for k in row.after
        )

    @property
    def per(self) -> str:
        """The span that the numbers cover, in words."""
        known = self.before.calls and self.after.calls
        return "per call" if known else "in the program" if self.is_static else "over the whole trace"

    @property
    def is_static(self) -> bool:
        return "tpu-static" in (self.before.source, self.after.source)

    def sentence(self) -> str:
        """The difference in words, for one or two lines."""
        incomplete = any(k.time_ns is None for row in self.rows for k in (*row.before, *row.after))
        plural = "" if self.before.count == 1 else "s"
        before, after = number(self.before.count), number(self.after.count)
        clauses = [f"{before} {self.before.unit}{plural} became {after}"]
        merged, into = self.count("merged")
        if merged:
            clauses.append(f"{number(merged)} merged into {number(into)}")
        gone, new = self.count("only-before")[0], self.count("only-after")[1]
        if gone:
            clauses.append(f"{number(gone)} only before")
        if new:
            clauses.append(f"{number(new)} only after")
        kept = self.count("matched")
        if any(kept):
            clauses.append(f"{number(kept[0])} matched with {number(kept[1])}")
        estimates = ", where there are estimates" if incomplete else ""
        return (
            f"{'; '.join(clauses)}. "
            f"Busy {duration(self.before.busy_ns, self.before.time_unit)} → "
            f"{duration(self.after.busy_ns, self.after.time_unit)} {self.per}{estimates}."
        )


def total(kernels: Sequence[Kernel], unit: TimeUnit = "ns") -> str:
    """Total time per call in words; `unknown` if one kernel's is, empty without kernels."""
    if any(kernel.time_ns is None for kernel in kernels):
        return "unknown"
    return duration(sum(kernel.time_ns or 0 for kernel in kernels), unit) if kernels else ""


def compare(
    before: Timeline,
    after: Timeline,
    *,
    before_calls: Sequence[Window] = (),
    after_calls: Sequence[Window] = (),
) -> Difference:
    """The difference of two timelines, per call; a timeline without calls counts as one call."""
    first, second = gather(before, before_calls), gather(after, after_calls)
    rows = list(_rows(first.kernels, second.kernels))
    rows.sort(key=lambda row: (RELATIONS.index(row.relation), -_longest(row)))
    return Difference(before=first.side, after=second.side, rows=tuple(rows))


def _rows(before: Sequence[NamedKernel], after: Sequence[NamedKernel]) -> Iterable[Row]:
    named = {kernel.name: kernel for kernel in after}
    same = [
        (old, new)
        for old in before
        if (new := named.get(old.name)) is not None and not (old.vague and (old.own or new.own))
    ]
    for old, new in same:
        how = "the same name, which does not say what is computed" if old.vague else "the same name"
        yield Row(relation="matched", before=(old.kernel,), after=(new.kernel,), joined_by=how)
    taken = {old.name for old, _ in same}
    left = [kernel for kernel in before if kernel.name not in taken]
    right = [kernel for kernel in after if kernel.name not in taken]
    vocabulary = sorted({operator for kernel in left for operator in kernel.under}, key=len, reverse=True)
    shared = {
        (i, j): common
        for j, new in enumerate(right)
        for inside in [_operators_in(new, vocabulary)]
        for i, old in enumerate(left)
        if (common := (inside & old.under) - _VIEWS)
    }
    for lefts, rights in _components(len(left), len(right), shared):
        a, b = [left[i] for i in sorted(lefts)], [right[j] for j in sorted(rights)]
        operators = sorted({o for i in lefts for j in rights for o in shared.get((i, j), ())})
        first, second = tuple(one.kernel for one in a), tuple(one.kernel for one in b)
        if not b:
            yield Row(relation="only-before", before=first)
        elif not a:
            yield Row(relation="only-after", after=second)
        else:
            merged = sum(k.count for k in second) < sum(k.count for k in first)
            yield Row(
                relation="merged" if merged else "matched",
                before=first,
                after=second,
                joined_by=f"{'operators' if len(operators) > 1 else 'operator'} {', '.join(operators)}",
            )


def _operators_in(kernel: NamedKernel, vocabulary: Sequence[str]) -> set[str]:
    """The kernel's own operators, and those of `vocabulary` (longest first) in its fused name."""
    found = set(kernel.own)
    for words in kernel.fused_words:
        text = f"_{words}_"
        for operator in vocabulary:
            if operator and f"_{operator}_" in text:
                found.add(operator)
                text = text.replace(f"_{operator}_", "_\0_")
    return found


def _components(
    left: int, right: int, edges: Iterable[tuple[int, int]]
) -> Iterable[tuple[set[int], set[int]]]:
    """The connected components of the graph of both sides; a node without an edge is a component."""
    group = list(range(left + right))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = i = group[group[i]]
        return i

    for i, j in edges:
        group[root(i)] = root(left + j)
    members: dict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for i in range(left + right):
        members[root(i)][i >= left].add(i if i < left else i - left)
    return members.values()


def _longest(row: Row) -> float:
    return max(sum(k.time_ns or 0 for k in side) for side in (row.before, row.after))
