"""One pure function decides for nano-run, jobs, nano-init, the tuner and notebooks."""

from __future__ import annotations

import pytest

from nano_init.errors import PrecisionError, UsageError
from nano_init.frozen import replace
from nano_init.machine.facts import Core, Isa, Limits, Machine, Topology
from nano_init.plan.choice import Wishes, choose
from nano_init.plan.configuration import Configuration
from nano_init.plan.settings import Options, PrecisionChoice
from nano_init.protocol.patch_options import PatchOptions
from nano_init.survey import Surroundings

ISA = Isa("x86_64", "GenuineIntel", "", frozenset(["avx512f"]), "AVX512_CORE_BF16", "avx512")
MACHINE = Machine(ISA, Topology((Core((0,), 0, 0), Core((1,), 0, 0)), (), 1), Limits((0, 1)))
HERE = Surroundings(MACHINE, None, {}, {}, {"jemalloc": "/lib/libjemalloc.so.2"})


def test_auto_uses_the_recommended_precision_and_keeps_other_patch_options() -> None:
    choice = choose(Wishes(patch=PatchOptions(lazy_adam=True)), HERE)
    assert choice.patch == PatchOptions("mixed_bfloat16", lazy_adam=True, is_chosen=True)


def test_a_requested_precision_is_used_under_its_canonical_name() -> None:
    assert choose(Wishes(patch=PatchOptions("float32")), HERE).patch.precision == "float32"
    asked = PatchOptions("mixed-bfloat16")
    assert choose(Wishes(patch=asked), HERE).patch == PatchOptions("mixed_bfloat16")


def test_a_measurement_overrides_the_instruction_set_but_not_the_user() -> None:
    measured = PrecisionChoice("float32", "measured")
    assert choose(Wishes(), HERE, measured=measured).patch.precision == "float32"
    asked = Wishes(patch=PatchOptions("mixed_bfloat16"))
    assert choose(asked, HERE, measured=measured).patch.precision == "mixed_bfloat16"


@pytest.mark.parametrize("asked", ["auto", "mixed_bfloat16", "float32"])
@pytest.mark.parametrize("chosen", [None, Configuration("mixed_bfloat16")])
def test_a_keras_on_which_bfloat16_cannot_be_guarded_trains_in_float32(asked, chosen) -> None:
    here = replace(HERE, bfloat16_fault="Keras 3.16.0 does not fit")
    choice = choose(Wishes(patch=PatchOptions(asked)), here, chosen)
    assert choice.patch.precision == "float32"
    assert not choice.patch.is_chosen
    reason = "mixed_bfloat16 not recommended: Keras 3.16.0 does not fit"
    assert choice.plan.precision == PrecisionChoice("float32", reason)


def test_a_configuration_sets_variables_allocator_and_precision() -> None:
    chosen = Configuration("float32", xla=True, threads=1, allocator="jemalloc")
    choice = choose(Wishes(), HERE, chosen)
    variables = choice.plan.environment()
    assert choice.patch.precision == "float32"
    assert variables["TF_NUM_INTRAOP_THREADS"] == "1"
    assert variables["LD_PRELOAD"] == "/lib/libjemalloc.so.2"
    assert "TF_XLA_FLAGS" in variables


def test_invalid_values_are_rejected() -> None:
    with pytest.raises(PrecisionError, match="int3"):
        choose(Wishes(patch=PatchOptions("int3")), HERE)
    with pytest.raises(UsageError, match="no usable tcmalloc library"):
        choose(Wishes(Options(allocator="tcmalloc")), HERE)
