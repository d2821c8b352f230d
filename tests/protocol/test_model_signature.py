"""A model is recognized by the shapes of the variables that its first optimizer trains."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nano_init.protocol.model_signature import digest_signature, shapes_of


@dataclass
class Variable:
    shape: tuple[int, ...]


def test_digests_are_short_and_differ_for_different_shapes() -> None:
    first, second = ([Variable((64, units)), Variable((units,))] for units in (8, 16))
    signature = json.dumps([shapes_of(first), shapes_of(second), []])
    one, other = digest_signature(signature).split(",")
    assert one != other
    assert len(one) == 8
    assert digest_signature(json.dumps([shapes_of(second)])) == other


def test_an_empty_signature_has_an_empty_digest() -> None:
    assert digest_signature("") == digest_signature("[]") == digest_signature("[[]]") == ""
