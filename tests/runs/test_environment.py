import json
import os
import platform
import subprocess
import sys

import pytest

from fuseproof.runs import environment
from fuseproof.runs.plan import Settings

SETTINGS = vars(Settings())


def test_an_environment_is_plain_data():
    described = environment.describe(device="cpu", threads=1)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["cpu"]["cores"] == len(environment.usable_cpus())
    assert described["gpu"] == []
    assert described["packages"]["numpy"]


def test_a_fingerprint_is_the_same_for_the_same_machine_and_software():
    fields = environment.fingerprint_fields(environment.describe(device="cpu", threads=1), SETTINGS)
    again = environment.fingerprint_fields(environment.describe(device="cpu", threads=1), SETTINGS)
    assert fields == again, "load and free memory have no part in it"
    assert environment.fingerprint(fields) == environment.fingerprint(dict(reversed(fields.items())))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("cpu", "model"), "another"),
        (("cpu", "cores"), 96),
        (("packages", "torch"), "0.1"),
        (("threads",), 64),
        (("device",), "cuda"),
        (("os",), "Plan 9"),
        (("python",), "3.99.0"),
        (("gpu",), [{"name": "H100", "driver": "1"}]),
    ],
    ids=str,
)
def test_what_changes_speed_changes_the_fingerprint(place, value):
    described = environment.describe(device="cpu", threads=1)
    before = environment.fingerprint(environment.fingerprint_fields(described, SETTINGS))
    inside = described
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    assert environment.fingerprint(environment.fingerprint_fields(described, SETTINGS)) != before


def test_the_length_of_legs_is_part_of_it_and_their_number_is_not():
    described = environment.describe(device="cpu", threads=1)
    fields = environment.fingerprint_fields(described, SETTINGS)
    assert environment.fingerprint_fields(described, SETTINGS | {"blocks": 99, "palindromes": 99}) == fields
    assert environment.fingerprint_fields(described, SETTINGS | {"leg_seconds": 1.0}) != fields


def test_runs_of_another_scale_are_not_compared():
    described = environment.describe(device="cpu", threads=1)
    fields = environment.fingerprint_fields(described, SETTINGS)
    scaled = [
        environment.fingerprint_fields(described, SETTINGS | {"scale": scale}) for scale in ("cpu", "gpu")
    ]
    assert fields != scaled[0] != scaled[1], "equal names of suites then mean other sizes"


def test_variables_that_change_speed_are_recorded_and_no_secret(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("TF_", "JAX_", "CUDA_", "TORCH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/alice/dump\x1b[31m")
    before = environment.describe(device="cpu", threads=1)["variables_left_out"]
    secrets = ("TF_TOKEN_app_terraform_io", "TF_VAR_password", "JAX_API_KEY", "CUDA_REGISTRY_PASSWORD")
    for name in (*secrets, "PASSWORD"):
        monkeypatch.setenv(name, "secret")
    described = environment.describe(device="cpu", threads=1)
    assert described["variables"]["OMP_PROC_BIND"] == "true"
    assert described["variables"]["XLA_FLAGS"] == r"--xla_dump_to=~/dump\x1b[31m"
    assert "secret" not in json.dumps(described) and "TF_VAR" not in json.dumps(described)
    assert described["variables_left_out"] == before + len(secrets), "the number is all that is said of them"


def test_the_hosts_name_is_in_no_description(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "alices-laptop")
    everything = (environment.describe(device="cpu", threads=1), environment.machine_info())
    assert "alices-laptop" not in json.dumps(everything)
    assert environment.machine_info()["node"] == environment.machine_info()["node"] != platform.node()


def test_versions_are_found_without_importing(tmp_path):
    script = (
        "import sys; from fuseproof.runs import environment; environment.describe(device='cpu', threads=1); "
        "assert not {'torch', 'jax', 'tensorflow', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_the_commit_is_that_of_the_folder_we_stand_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.commit_info() == {}
    for key, value in {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }.items():
        monkeypatch.setenv(key, value)
    for arguments in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *arguments], check=True)
    info = environment.commit_info()
    assert (len(info["id"]), info["dirty"], info["branch"]) == (40, False, "main")
    (tmp_path / "new").touch()
    assert environment.commit_info()["dirty"] is True


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.commit_info() == {}
