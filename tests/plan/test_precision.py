"""Which precision is recommended, and with what reason."""

from __future__ import annotations

import pytest

from nano_init.errors import NanoError, PrecisionError
from nano_init.machine.facts import Isa
from nano_init.plan.precision import check_precision, recommend_precision, slow_precision


def isa(
    bf16: str | None = None,
    flags: tuple[str, ...] = (),
    arch: str = "x86_64",
    amx_denied: str | None = None,
    vendor: str = "Vendor",
    level: str | None = None,
) -> Isa:
    return Isa(arch, vendor, "Model", frozenset(flags), level, bf16, amx_denied)


def sapphire_rapids(bf16: str, amx_denied: str | None = None, vendor: str = "GenuineIntel") -> Isa:
    level = "AVX512_CORE_AMX" if bf16 == "amx" else "AVX512_CORE_FP16"
    flags = ("avx512f", "avx512_bf16", "avx512_fp16")
    return isa(bf16, flags, amx_denied=amx_denied, vendor=vendor, level=level)


class TestCheckPrecision:
    @pytest.mark.parametrize("name", ["auto", "measured", "float32", "mixed_bfloat16"])
    def test_valid_names_are_accepted(self, name: str) -> None:
        assert check_precision(name) == name

    def test_a_hyphen_counts_as_an_underscore(self) -> None:
        assert check_precision("mixed-bfloat16") == "mixed_bfloat16"

    def test_an_unknown_name_is_rejected_with_the_choices(self) -> None:
        with pytest.raises(
            PrecisionError,
            match="precision 'int3' is unknown; choose auto, measured, float32 or mixed_bfloat16",
        ):
            check_precision("int3")

    def test_a_short_name_is_rejected_with_a_suggestion(self) -> None:
        with pytest.raises(PrecisionError, match="'bf16' is unknown, did you mean mixed_bfloat16;"):
            check_precision("bf16")

    @pytest.mark.parametrize("value", ["mixed", "FLOAT32", "", None, 16, ["float32"]])
    def test_invalid_names_and_types_are_rejected(self, value: object) -> None:
        with pytest.raises(PrecisionError) as refusal:
            check_precision(value, auto=False)
        assert str(refusal.value) == (
            f"precision {value!r} is unknown; choose float32 or mixed_bfloat16"
        )

    def test_auto_is_rejected_where_it_has_no_meaning(self) -> None:
        with pytest.raises(PrecisionError, match="choose float32 or mixed_bfloat16"):
            check_precision("auto", auto=False)

    @pytest.mark.parametrize("name", ["bfloat16", "float16", "mixed_float16"])
    def test_a_precision_unfit_for_training_is_rejected_with_the_reason(self, name: str) -> None:
        with pytest.raises(PrecisionError, match=rf"'{name}' is not for training \(.+\); choose"):
            check_precision(name)

    def test_the_error_is_a_value_error_and_a_nano_error(self) -> None:
        with pytest.raises(ValueError, match="int3") as caught:
            check_precision("int3")
        assert isinstance(caught.value, NanoError)


class TestRecommendPrecision:
    @pytest.mark.parametrize(
        ("unit", "arch"), [("amx", "x86_64"), ("avx512", "x86_64"), ("arm", "aarch64")]
    )
    def test_bfloat16_is_recommended_with_a_native_unit(self, unit: str, arch: str) -> None:
        choice = recommend_precision(isa(unit, arch=arch), {})
        assert choice.recommended == "mixed_bfloat16"
        assert "bfloat16" in choice.reason

    def test_avx512_without_bf16_gets_float32_because_it_emulates_bfloat16(self) -> None:
        choice = recommend_precision(isa(flags=("avx512f",)), {})
        assert choice.recommended == "float32"
        assert choice.reason == (
            "mixed_bfloat16 not recommended: AVX-512 without AVX512_BF16 emulates bfloat16 "
            "and is slower than float32"
        )

    def test_float32_is_recommended_without_avx512(self) -> None:
        choice = recommend_precision(isa(flags=("avx2",)), {})
        assert choice.recommended == "float32"
        assert "without AVX512_BF16 or AMX" in choice.reason

    def test_float32_is_recommended_if_amx_is_refused_and_there_is_no_other_unit(self) -> None:
        choice = recommend_precision(isa(None, amx_denied="the kernel refuses AMX"), {})
        assert choice.recommended == "float32"
        assert "the kernel refuses AMX" in choice.reason

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("TF_ENABLE_ONEDNN_OPTS", "0"),
            ("TF_ENABLE_ONEDNN_OPTS", "False"),
            ("ONEDNN_MAX_CPU_ISA", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
            ("DNNL_MAX_CPU_ISA", "AVX512_CORE"),
        ],
    )
    def test_a_user_variable_that_switches_off_the_unit_counts(self, name: str, value: str) -> None:
        choice = recommend_precision(isa("avx512"), {name: value})
        assert choice.recommended == "float32"
        assert name in choice.reason

    def test_an_isa_limit_at_the_level_of_the_unit_changes_nothing(self) -> None:
        choice = recommend_precision(isa("avx512"), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"})
        assert choice.recommended == "mixed_bfloat16"

    @pytest.mark.parametrize(
        ("newer", "recommended"),
        [("AVX512_CORE_BF16", "mixed_bfloat16"), ("AVX2", "float32"), ("", "float32")],
    )
    def test_of_two_isa_limits_the_one_that_onednn_reads_counts(
        self, newer: str, recommended: str
    ) -> None:
        """oneDNN reads the older name only if the newer one is unset or empty."""
        variables = {"ONEDNN_MAX_CPU_ISA": newer, "DNNL_MAX_CPU_ISA": "AVX512_CORE"}
        assert recommend_precision(isa("avx512"), variables).recommended == recommended

    def test_float32_is_recommended_on_an_intel_processor_whose_amx_is_hidden(self) -> None:
        """There AVX512_BF16 multiplies at half the speed of float32."""
        choice = recommend_precision(sapphire_rapids("avx512"), {})
        assert choice.recommended == "float32"
        assert choice.reason == (
            "mixed_bfloat16 not recommended: without AMX, this processor multiplies bfloat16 at "
            "half float32's speed"
        )

    def test_refused_amx_tells_such_a_processor_too(self) -> None:
        flags = ("avx512f", "avx512_bf16", "amx_tile")
        refused = isa("avx512", flags, amx_denied="the kernel refuses AMX", vendor="GenuineIntel")
        assert recommend_precision(refused, {}).recommended == "float32"

    def test_the_reason_says_who_refuses_amx(self) -> None:
        choice = recommend_precision(sapphire_rapids("avx512", "the kernel refuses AMX"), {})
        assert choice.recommended == "float32"
        assert "without AMX (the kernel refuses AMX), this processor" in choice.reason

    def test_bfloat16_is_recommended_on_the_same_processor_with_amx(self) -> None:
        assert recommend_precision(sapphire_rapids("amx"), {}).recommended == "mixed_bfloat16"

    @pytest.mark.parametrize("ceiling", ["AVX512_CORE_BF16", "avx512_core_fp16"])
    def test_a_limit_below_amx_leaves_the_slow_unit(self, ceiling: str) -> None:
        choice = recommend_precision(sapphire_rapids("amx"), {"ONEDNN_MAX_CPU_ISA": ceiling})
        assert choice.recommended == "float32"

    def test_avx512_fp16_of_another_vendor_says_nothing_of_bfloat16(self) -> None:
        other = sapphire_rapids("avx512", vendor="AuthenticAMD")
        assert recommend_precision(other, {}).recommended == "mixed_bfloat16"

    def test_float32_is_recommended_on_apple_silicon(self) -> None:
        assert recommend_precision(isa("arm", arch="arm64"), {}).recommended == "float32"


class TestSlowPrecision:
    def test_bfloat16_without_a_unit_gives_a_warning(self) -> None:
        choice = recommend_precision(isa(flags=("avx2",)), {})
        warning = slow_precision("mixed_bfloat16", choice)
        assert warning is not None
        assert warning.startswith("mixed_bfloat16 is no faster than float32 here: without AVX512")

    def test_bfloat16_with_a_unit_gives_no_warning(self) -> None:
        choice = recommend_precision(isa("avx512"), {})
        assert slow_precision("mixed_bfloat16", choice) is None

    def test_float32_gives_no_warning(self) -> None:
        choice = recommend_precision(isa(), {})
        assert slow_precision("float32", choice) is None
