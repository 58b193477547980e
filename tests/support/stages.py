"""Stages of a run that do nothing."""

from __future__ import annotations

from fuseproof.measure.progress import Progress
from fuseproof.runs.directory import RunDirectory


class NoStage:
    """A stage with nothing to do after the timing."""

    PIECE, GUESS = "profile", 0.0

    def left(self, directory: RunDirectory) -> tuple[()]:
        return ()

    def run(self, directory: RunDirectory, progress: Progress) -> None: ...


NO_STAGE = NoStage()
