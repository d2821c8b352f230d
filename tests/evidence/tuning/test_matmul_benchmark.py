"""The matmul benchmark runs once per machine, and recommends the faster precision."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
from nano_init.evidence.tuning.cache import clear_cache
from nano_init.evidence.tuning.matmul_benchmark import (
    MatmulSpeed,
    matmul_file,
    measure_matmul,
    recall_matmul,
    recommend_from_matmul,
)
from nano_init.machine.probe import probe
from nano_init.plan.build import Build
from nano_init.plan.settings import PrecisionChoice
from nano_init.survey import Surroundings

MACHINE = probe(environ={})
BUILD = Build("tensorflow", "2.21.0", "eigen")
FACTS = TensorFlowFacts(gflops=(("float32", 100.0), ("bfloat16", 190.0)))


def surroundings(environ: Mapping[str, str], build: Build = BUILD) -> Surroundings:
    return Surroundings(MACHINE, build, environ, {}, {})


@pytest.fixture
def user_environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def examine(_environ: Mapping[str, str]) -> TensorFlowFacts:
    return FACTS


def test_a_result_is_recalled_on_the_same_machine(user_environ: dict[str, str]) -> None:
    path, key = matmul_file(surroundings(user_environ))
    assert recall_matmul(path, key) is None
    found, fault = measure_matmul(path, key, user_environ, examine)
    assert (found and found.gain, fault) == (1.9, "")
    assert recall_matmul(path, key) == found
    assert (
        matmul_file(surroundings(user_environ, Build("tensorflow", "2.22.0", "eigen")))[0] != path
    )
    assert clear_cache(user_environ) == 0
    assert not os.path.exists(path)


def test_a_result_is_not_stored_without_keep(user_environ: dict[str, str]) -> None:
    path, key = matmul_file(surroundings(user_environ))
    measure_matmul(path, key, user_environ, examine, keep=False)
    assert not os.path.exists(path)


def test_a_tensorflow_that_cannot_be_examined_is_reported(user_environ: dict[str, str]) -> None:
    path, key = matmul_file(surroundings(user_environ))
    found, fault = measure_matmul(
        path, key, user_environ, lambda _: TensorFlowFacts(fault="no module")
    )
    assert (found, fault) == (None, "the matmul benchmark failed: no module")
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "change", [{"gain": "1.9"}, {"gain": -1.0}, {"gain": float("nan")}, {"form": 9}, {"key": "x"}]
)
def test_an_invalid_entry_is_not_recalled(
    user_environ: dict[str, str], change: dict[str, object]
) -> None:
    path, key = matmul_file(surroundings(user_environ))
    measure_matmul(path, key, user_environ, examine)
    entry = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**entry, **change}))
    assert recall_matmul(path, key) is None


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_damaged_entry_is_not_recalled(user_environ: dict[str, str], text: str) -> None:
    path, key = matmul_file(surroundings(user_environ))
    measure_matmul(path, key, user_environ, examine)
    Path(path).write_text(text)
    assert recall_matmul(path, key) is None


def test_a_named_pipe_in_place_of_the_entry_is_not_waited_for(user_environ: dict[str, str]) -> None:
    path, key = matmul_file(surroundings(user_environ))
    os.makedirs(os.path.dirname(path))
    os.mkfifo(path)
    assert recall_matmul(path, key) is None
    found, fault = measure_matmul(path, key, user_environ, examine)
    assert (recall_matmul(path, key), fault) == (found, "")


@pytest.mark.parametrize(("gain", "precision"), [(1.9, "mixed_bfloat16"), (1.05, "float32")])
def test_bfloat16_is_recommended_only_if_it_is_faster(gain: float, precision: str) -> None:
    unit = PrecisionChoice("mixed_bfloat16", "AVX512_BF16 multiplies bfloat16 natively")
    choice = recommend_from_matmul(MatmulSpeed(gain, "2026-11-25"), unit)
    assert choice.recommended == precision
    assert f"{gain:.2f} times as fast in bfloat16 as in float32" in choice.reason
