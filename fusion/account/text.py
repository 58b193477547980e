"""Fusion accounts as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuseproof.fusion.account.record import Account, Pair
from fuseproof.fusion.programs.operations import counted


def render_text(accounts: Sequence[Account]) -> str:
    """A table for each case, the fusions of each implementation, and why something is unknown."""
    lines = [
        "kernels: counted by the profiler; peak: measured; operations, bytes: computed from the program, "
        "not measured"
    ]
    for case in dict.fromkeys(account.case for account in accounts):
        mine = [account for account in accounts if account.case == case]
        lines.append(f"\n{case}")
        width = max(len(account.implementation) for account in mine)
        titles = f"{'kernels':>12}{'operations':>13}{'MB moved':>19}{'peak MB':>19}"
        lines.append(f"  {'':{width}}{titles}   (eager → compiled)")
        lines += [line for account in mine if account.status == "ok" for line in _figures(account, width)]
        for account in mine:
            if account.status == "ok":
                lines += _fusions(account)
        lines += [f"  {a.status}: {a.implementation}: {a.reason}" for a in mine if a.status != "ok"]
    return "\n".join(lines) + "\n"


def _figures(account: Account, width: int) -> Iterator[str]:
    def arrow(pair: Pair, unit: float | None = None) -> str:
        sides = (
            "-" if side is None else f"{side / unit:,.2f}" if unit else str(side)
            for side in (pair.eager, pair.compiled)
        )
        return " → ".join(sides)

    yield (
        f"  {account.implementation:{width}}{arrow(account.kernels):>12}{arrow(account.operations):>13}"
        f"{arrow(account.bytes, 1e6):>19}{arrow(account.peak_memory_bytes, 1e6):>19}"
    )


def _fusions(account: Account) -> Iterator[str]:
    yield f"  {account.implementation}, against {account.compared_with}"
    for operation in account.after or ():
        moved = "-" if operation.bytes is None else f"{operation.bytes / 1e6:,.2f}"
        nests = f", {operation.loop_nests} loop nests" if (operation.loop_nests or 0) > 1 else ""
        members = f": {counted(operation.members)}" if operation.members else ""
        yield f"    {moved:>9} MB  {operation.kind:9} {operation.name}{nests}{members}"
    for reason, names in reasons(account).items():
        yield f"    unknown: {', '.join(names)}: {reason}"
    for label, place in account.artifacts.items():
        yield f"    {label}: {place}"


def reasons(account: Account) -> dict[str, list[str]]:
    """Why figures are unknown, each reason once with the figures it concerns."""
    found: dict[str, list[str]] = {}
    for name, reason in account.unknown.items():
        found.setdefault(reason, []).append(name.replace("_", " "))
    return found
