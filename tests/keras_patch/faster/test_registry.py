"""Paths are disabled by name, and Keras's code runs if a path fails."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.keras_patch.contributions import keras_producers
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.registry import (
    FASTER_PATHS,
    disabled_paths,
    parse_disabled,
)
from nano_init.protocol.patch_options import PatchOptions


@given(st.sets(st.sampled_from(FASTER_PATHS)), st.sampled_from([",", " , ", ",,"]))
def test_names_are_separated_by_commas(names, comma):
    assert parse_disabled(comma.join(sorted(names))) == (names, None)


def test_all_stands_for_every_path():
    assert parse_disabled("all") == (frozenset(FASTER_PATHS), None)


def test_an_unknown_name_gives_one_sentence_and_the_others_count():
    known, sentence = parse_disabled("adam,adm")
    assert known == {"adam"}
    assert sentence.startswith("'adm' is not a faster path")
    assert "'batch_norm'" in sentence
    assert "\n" not in sentence


def test_paths_of_the_environment_and_the_argument_are_combined():
    environ = {"NANO_INIT_DISABLE": "adam"}
    assert disabled_paths(environ) == ("adam",)
    assert disabled_paths(environ, "sgd") == ("adam", "sgd")
    assert disabled_paths(environ, ["sgd", "rmsprop"]) == ("adam", "rmsprop", "sgd")
    assert disabled_paths({}) == ()


def test_an_unknown_name_in_the_environment_warns():
    with pytest.warns(UserWarning, match="nano-init: 'adm' is not a faster path"):
        assert disabled_paths({"NANO_INIT_DISABLE": "adm,sgd"}) == ("sgd",)


@pytest.mark.parametrize("name", FASTER_PATHS)
def test_every_path_has_a_module_of_its_name(name):
    assert importlib.util.find_spec(f"nano_init.keras_patch.faster.{name}")


@pytest.mark.tensorflow
def test_a_disabled_path_is_not_part_of_the_patch():
    keras_3 = frozenset({"keras"})
    everything = keras_producers(PatchOptions("float32"), keras_3)
    without = keras_producers(PatchOptions("float32", disable=("adam",)), keras_3)
    assert everything.keys() - without.keys() == {"adam"}


class Layer:
    """A class with a method to replace."""

    calls = 0

    def double(self, number):
        """Return twice the number."""
        self.calls += 1
        return number * 2


def test_a_path_that_fails_warns_once_by_name_and_is_not_used_again():
    tried = []

    def broken(self, number):
        tried.append(number)
        raise RuntimeError("no such kernel\nat line 3")

    method = with_faster_path("doubling", Layer.double, lambda *_: True, broken)
    layer = Layer()
    with pytest.warns(UserWarning, match=r"'doubling' failed \(no such kernel\);.*_DISABLE=doub"):
        assert method(layer, 3) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method(layer, 4) == 8
    assert (tried, layer.calls) == ([3], 2)


def test_an_error_of_the_user_does_not_disable_the_path():
    """If Keras's code raises too, its error passes through and the path stays active."""
    method = with_faster_path("doubling", Layer.double, lambda *_: True, lambda _, n: n * 2)
    with pytest.raises(TypeError):
        method(Layer(), object())
    assert method(Layer(), 3) == 6


def test_the_original_runs_where_a_path_does_not_apply():
    layer = Layer()
    method = with_faster_path("doubling", Layer.double, lambda *_: False, lambda *_: None)
    assert method(layer, 2) == 4
    assert layer.calls == 1


def test_an_error_of_keras_does_not_have_an_error_of_the_path_as_context():
    def fail(self):
        raise ValueError("both")

    method = with_faster_path("adam", fail, lambda self: True, fail)
    with pytest.raises(ValueError, match="both") as caught:
        method(None)
    assert caught.value.__context__ is None


def test_the_warning_about_a_failed_path_points_to_the_caller():
    def fail(self):
        raise ValueError("mine")

    method = with_faster_path("adam", lambda self: 1, lambda self: True, fail)
    with pytest.warns(UserWarning, match="'adam' failed") as caught:
        assert method(None) == 1
    assert caught[0].filename == __file__
