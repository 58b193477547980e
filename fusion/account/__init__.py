"""The fusion account: what compiling changed in an implementation, as plain data and as text."""

from fuseproof.fusion.account.record import FILE, Account, Pair, document, load
from fuseproof.fusion.account.text import reasons, render_text

__all__ = [
    "FILE",
    "Account",
    "Pair",
    "document",
    "load",
    "reasons",
    "render_text",
]
