"""Small trainings reach the same scores in patched mixed_bfloat16 as in float32."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn", reason="the data come with scikit-learn")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def parity():
    folder = os.path.join(ROOT, "benchmarks")
    path = os.path.join(folder, "parity.py")
    sys.path.insert(0, folder)
    spec = spec_from_file_location("nano_init_benchmarks_parity", path)
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(folder)
    yield module
    del sys.modules[spec.name]


def outcomes(parity, name):
    (training,) = [t for t in parity.TRAININGS if t.name.startswith(name)]
    return {o.variant: o for o in parity.compare(training, [0])}


@pytest.mark.parametrize("name", ["wine", "1,000 classes", "autoencoder"])
def test_the_patch_stays_within_the_tolerance_band(parity, name):
    outcome = outcomes(parity, name)["patch"]
    assert outcome.is_within_band, outcome


def test_ids_above_256_are_learnt_under_the_patch_but_not_under_a_bare_policy(parity):
    found = outcomes(parity, "50,000 ids")
    assert found["patch"].is_within_band
    assert not found["bare"].is_within_band


def test_a_mean_outside_the_band_is_reported(parity):
    values = iter([0.9, 0.8, 0.7])
    training = parity.Training("t", "accuracy", 0.15, lambda seed: next(values))
    found = parity.compare(training, [0])
    assert [o.is_within_band for o in found] == [True, True, False]
    rows = parity.outcome_table(found).rows
    assert [(round(row[5], 4), row[-1]) for row in rows][-1] == (-0.2, "no")
