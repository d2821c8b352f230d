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
) -> Isa:
    return Isa(arch, "Vendor", "Model", frozenset(flags), None, bf16, amx_denied)


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

    def test_refused_amx_falls_back_to_avx512_with_the_reason(self) -> None:
        choice = recommend_precision(isa("avx512", amx_denied="the kernel refuses AMX"), {})
        assert choice.recommended == "mixed_bfloat16"
        assert "the kernel refuses AMX" in choice.reason

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

    def test_float32_is_recommended_on_apple_silicon(self) -> None:
        assert recommend_precision(isa("arm", arch="arm64"), {}).recommended == "float32"


class TestSlowPrecision:
    def test_bfloat16_without_a_unit_gives_a_warning(self) -> None:
        choice = recommend_precision(isa(flags=("avx2",)), {})
        warning = slow_precision("mixed_bfloat16", choice)
        assert warning is not None
        assert warning.startswith("mixed_bfloat16 will be slow here: without AVX512_BF16")

    def test_bfloat16_with_a_unit_gives_no_warning(self) -> None:
        choice = recommend_precision(isa("avx512"), {})
        assert slow_precision("mixed_bfloat16", choice) is None

    def test_float32_gives_no_warning(self) -> None:
        choice = recommend_precision(isa(), {})
        assert slow_precision("float32", choice) is None
