"""Rows of a file, checked in this process as a run checks them: `checked_rows.py FILE CASE BASELINE NAME…`.

Prints, by name, `passed` with `errors` and `deployment`, or what a worker answers instead.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from fuseproof.child_process import answer
from fuseproof.implementations import declared
from fuseproof.measure import checks, planning, reference
from fuseproof.measure.crew import description_of
from fuseproof.measure.referee import Referee
from fuseproof.measure.worker import Worker


def main(file, group, *names):
    implementations, workloads = declared.read([], [file])
    by_name = {each.name: each for each in implementations}
    (case,) = planning.named_cases([group], workloads, implementations)
    framework = reference.on_the_host(by_name[names[0]].framework)
    worker, referee = Worker(framework), Referee()
    opened = {"group": group, "seed": 1, "workload": description_of(case)}
    worker.open_case(**opened, last_level_cache=1)
    referee.open_case(**opened)

    def check(request):
        name = request["name"]
        prepared = worker.prepare(implementation=by_name[name].to_json())
        with tempfile.TemporaryDirectory() as folder:
            files = [f"{folder}/{draw}" for draw in (2, 3)]
            worker.check(name=name, draws=[2, 3], files=files)
            found = [
                referee.compare(draw=draw, file=each)["errors"]
                for draw, each in zip((2, 3), files, strict=True)
            ]
        errors = {tensor: max(each[tensor] for each in found) for tensor in found[0]}
        return {"errors": errors, "deployment": prepared.get("deployment")}

    answers = {name: answer(check, {"name": name}) for name in names}
    baseline = answers[names[0]]["ok"]["errors"]
    for found in answers.values():
        if "ok" in found:
            longest = case.workload.longest_axis
            verdict = checks.judge(found["ok"]["errors"], baseline, dtype="float32", longest=longest)
            found["passed"] = verdict.passed
    answers["left behind"] = [str(each) for each in Path(tempfile.gettempdir()).glob("fuseproof-*")]
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
