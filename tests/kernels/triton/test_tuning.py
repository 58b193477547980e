"""The choice of a config with a fake clock on a fake GPU: which are timed, remembered and skipped."""

import contextlib
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch
from triton.runtime.errors import OutOfResources

from fuseproof.kernels.triton import tuning

GPU = torch.device("cuda", 0)
H100 = tuning.Gpu(
    name="NVIDIA H100 80GB HBM3", capability="90", driver="580.1", triton="3.7.1", torch="2.13.0"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    BLOCK: int
    limit: float = math.inf


SMALL, MIDDLE, LARGE = CONFIGS = tuple(Config(BLOCK=size) for size in (16, 64, 128))


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Seconds by BLOCK, or the error it fails with; `timed` lists what was timed."""

    class Clock:
        def __init__(self):
            self.seconds, self.timed, self.compiled = {16: 3.0, 64: 1.0, 128: 2.0}, [], []

        def __call__(self, launches, device):
            [block] = launches
            self.timed.append(block)
            value = self.seconds[block]
            if isinstance(value, Exception):
                raise value
            return value

    clock = Clock()
    monkeypatch.setenv("FUSEPROOF_TUNING_CACHE", str(tmp_path))
    monkeypatch.delenv("FUSEPROOF_AUTOTUNE", raising=False)
    monkeypatch.setattr(tuning, "measure", clock)
    monkeypatch.setattr(tuning, "compile_all", lambda candidates, device: clock.compiled.extend(candidates))
    monkeypatch.setattr(tuning, "gpu_of", lambda device: H100)
    monkeypatch.setattr(tuning, "is_capturing", lambda: False)
    forget()
    yield clock
    forget()


def forget():
    """As another process would begin: only the files are left."""
    tuning._chosen.clear()


def choose(configs=CONFIGS, key=(1024, torch.bfloat16, True), device=GPU):
    return tuning.choose("layer_norm", key, configs, lambda config: [config.BLOCK], device)


def the_file(folder):
    [file] = (folder / "tuning").glob("*.json")
    return file


def test_the_fastest_is_timed_once_and_remembered(clock, tmp_path):
    assert choose() is MIDDLE
    assert choose() is MIDDLE
    assert clock.timed == [16, 64, 128]
    assert clock.compiled == [[16], [64], [128]]
    file = the_file(tmp_path)
    assert file.name.startswith("NVIDIA-H100-80GB-HBM3-sm_90-")
    [entry] = json.loads(file.read_text()).values()
    assert [timed["seconds"] for timed in entry["timed"]] == [3.0, 1.0, 2.0]

    forget()
    assert choose() is MIDDLE
    assert clock.timed == [16, 64, 128]


def test_other_problems_and_other_versions_are_timed_anew(clock, monkeypatch):
    choose()
    choose(key=(2048, torch.bfloat16, True))
    assert len(clock.timed) == 6
    forget()
    monkeypatch.setattr(tuning, "gpu_of", lambda device: replace(H100, triton="3.8.0"))
    choose()
    assert len(clock.timed) == 9
    forget()
    monkeypatch.setattr(tuning, "hash_of_source", lambda root: "edited")
    choose()
    assert len(clock.timed) == 12


def test_a_choice_among_other_candidates_is_not_taken(clock):
    assert choose() is MIDDLE
    assert choose((SMALL, LARGE)) is LARGE
    forget()
    assert choose() is MIDDLE  # and not LARGE, which the file now holds


def test_the_heuristic_decides_within_the_noise(clock):
    clock.seconds = {16: 1.005, 64: 1.0, 128: 0.999}
    assert choose() is SMALL


def test_candidates_that_do_not_run_are_skipped(clock, tmp_path):
    clock.seconds |= {64: OutOfResources(300_000, 232_448, "shared memory"), 16: RuntimeError("PassManager")}
    assert choose() is LARGE
    [entry] = json.loads(the_file(tmp_path).read_text()).values()
    assert [timed["seconds"] for timed in entry["timed"]] == [None, None, 2.0]
    clock.seconds[128] = RuntimeError("no kernel image")
    with pytest.raises(RuntimeError, match=r"no config runs for .*512.*out of resource.*no kernel image"):
        choose(key=(512,))
    with pytest.raises(ValueError, match="no legal config"):
        choose(())


def test_a_mistake_in_a_launch_is_not_hidden(clock):
    clock.seconds[16] = TypeError("unexpected keyword")
    with pytest.raises(TypeError):
        choose()


def test_without_memory_for_timing_the_best_guess_is_taken(clock, tmp_path):
    clock.seconds[64] = torch.cuda.OutOfMemoryError("256 MB")
    with pytest.warns(RuntimeWarning, match="no memory to time"):
        assert choose() is SMALL
    clock.seconds[64] = 1.0
    assert choose() is MIDDLE  # it was not remembered


@pytest.mark.parametrize("why", ["cpu", "meta", "off", "capturing", "single"])
def test_nothing_is_timed(clock, monkeypatch, tmp_path, why):
    device, configs = GPU, CONFIGS
    if why in ("cpu", "meta"):
        device = torch.device(why)
    elif why == "off":
        monkeypatch.setenv("FUSEPROOF_AUTOTUNE", "0")
    elif why == "capturing":
        monkeypatch.setattr(tuning, "is_capturing", lambda: True)
    else:
        configs = (SMALL,)
    assert choose(configs, device=device) is SMALL
    assert clock.timed == []
    assert not list(tmp_path.iterdir())


def test_a_known_choice_serves_a_capture(clock, monkeypatch):
    assert choose() is MIDDLE
    monkeypatch.setattr(tuning, "is_capturing", lambda: True)
    assert choose() is MIDDLE


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layer_norm(1024, torch.bfloat16, True)": 7}', "\xff"])
def test_a_damaged_file_is_ignored_and_replaced(clock, tmp_path, content):
    choose()
    file = the_file(tmp_path)
    file.write_bytes(content.encode("latin-1"))
    forget()
    if content.startswith("{") and len(content) > 1:
        assert choose() is MIDDLE  # one bad entry is not the whole file
    else:
        with pytest.warns(RuntimeWarning, match="delete it"):
            assert choose() is MIDDLE
    assert len(clock.timed) == 6
    forget()
    choose()
    assert len(clock.timed) == 6


def test_without_a_writable_cache_choices_last_for_the_process(clock, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSEPROOF_TUNING_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="cannot keep"):
        assert choose() is MIDDLE
    assert choose() is MIDDLE
    assert len(clock.timed) == 3


def test_writers_at_the_same_time_lose_no_entry(tmp_path):
    file = tmp_path / "deep" / "tuning.json"
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: tuning._remember(file, f"key {i}", MIDDLE, CONFIGS, [None, 1.0, 2.0]), range(40)
            )
        )
    assert set(json.loads(file.read_text())) == {f"key {i}" for i in range(40)}
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".json", ".lock"]


def test_the_cache_directory_is_the_users_unless_one_is_named(monkeypatch, tmp_path):
    for name in ("FUSEPROOF_TUNING_CACHE", "FUSEPROOF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuning.cache_directory() == tmp_path / "fuseproof"
    monkeypatch.setenv("FUSEPROOF_CACHE", str(tmp_path / "older"))
    assert tuning.cache_directory() == tmp_path / "older"
    monkeypatch.setenv("FUSEPROOF_TUNING_CACHE", str(tmp_path / "newer"))
    assert tuning.cache_directory() == tmp_path / "newer"


def test_the_older_variable_still_names_the_cache(clock, monkeypatch, tmp_path):
    monkeypatch.delenv("FUSEPROOF_TUNING_CACHE")
    monkeypatch.setenv("FUSEPROOF_CACHE", str(tmp_path / "older"))
    assert choose() is MIDDLE
    assert the_file(tmp_path / "older").exists()


# As version 0.1 wrote it.
RECORDED = """{
 "layer_norm(1024, torch.bfloat16, True)": {
  "config": {
   "BLOCK": 128,
   "limit": Infinity
  },
  "timed": [
   {
    "config": {
     "BLOCK": 16,
     "limit": Infinity
    },
    "seconds": null
   },
   {
    "config": {
     "BLOCK": 64,
     "limit": Infinity
    },
    "seconds": 2.0
   },
   {
    "config": {
     "BLOCK": 128,
     "limit": Infinity
    },
    "seconds": 1.0
   }
  ]
 }
}"""


def test_a_file_of_an_earlier_version_is_read(clock, tmp_path):
    file = H100.file(tuning.hash_of_source(tuning.KERNELS))
    file.parent.mkdir()
    file.write_text(RECORDED)
    assert choose() is LARGE  # the clock would have chosen MIDDLE
    assert clock.timed == []


def copy_of_the_kernels(folder):
    shutil.copytree(tuning.KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return H100.file(tuning.hash_of_source(folder)).name


def test_an_edit_of_any_kernel_module_changes_the_name_of_the_file(tmp_path):
    unchanged = copy_of_the_kernels(tmp_path / "kernels")
    assert unchanged == H100.file(tuning.hash_of_source(tuning.KERNELS)).name
    modules = sorted((tmp_path / "kernels").rglob("*.py"))
    assert {"launch.py", "forward.py", "kernels.py", "configs.py"} <= {module.name for module in modules}
    names = {unchanged}
    for module in modules:
        before = module.read_bytes()
        module.write_bytes(before + b"\n")
        tuning.hash_of_source.cache_clear()
        names.add(H100.file(tuning.hash_of_source(tmp_path / "kernels")).name)
        module.write_bytes(before)
    assert len(names) == 1 + len(modules)
    modules[0].rename(modules[0].with_name("renamed.py"))
    tuning.hash_of_source.cache_clear()
    assert H100.file(tuning.hash_of_source(tmp_path / "kernels")).name not in names
    tuning.hash_of_source.cache_clear()


def test_a_choice_depends_on_the_source_of_all_kernels(clock, tmp_path):
    choose()
    assert the_file(tmp_path) == H100.file(tuning.hash_of_source(tuning.KERNELS))
    assert tuning.KERNELS.name == "triton"


def test_all_candidates_are_compiled_although_some_cannot(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    compiled = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def compile(self):
            if self.name == "bad":
                raise RuntimeError("PassManager::run failed")
            compiled.append(self.name)

    tuning.compile_all([[Fake("a"), Fake("b")], [Fake("bad"), Fake("after")], [Fake("c")]], GPU)
    assert sorted(compiled) == ["a", "b", "c"]
