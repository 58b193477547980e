"""Does a published claim hold on these runs? `load` reads claims, `judge` judges them, `text` says it."""

from fuseproof.reports.claims.judge import evaluate, matrix
from fuseproof.reports.claims.load import (
    DEFAULT_CLAIMS,
    READINGS,
    REDUCTION,
    SHARE,
    Claim,
    load_claims,
)
from fuseproof.reports.claims.row import ClaimRow
from fuseproof.reports.claims.rule import MIN_BLOCKS, UNDECIDABLE, VERDICTS
from fuseproof.reports.claims.sentence import pooled as pooled_sentence
from fuseproof.reports.claims.text import (
    MEANINGS,
    QUANTITIES,
    band_words,
    render_summary,
    render_text,
    undecided,
    verdict_sentence,
)

__all__ = [
    "DEFAULT_CLAIMS",
    "MEANINGS",
    "MIN_BLOCKS",
    "QUANTITIES",
    "READINGS",
    "REDUCTION",
    "SHARE",
    "UNDECIDABLE",
    "VERDICTS",
    "Claim",
    "ClaimRow",
    "band_words",
    "evaluate",
    "load_claims",
    "matrix",
    "pooled_sentence",
    "render_summary",
    "render_text",
    "undecided",
    "verdict_sentence",
]
