"""A model is known again by the shapes of what its first optimizer trains."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nano_init.protocol.model_signature import digest_signature, shapes_of


@dataclass
class Variable:
    shape: tuple[int, ...]


def test_digests_are_short_and_tell_shapes_apart() -> None:
    first, second = ([Variable((64, units)), Variable((units,))] for units in (8, 16))
    signature = json.dumps([shapes_of(first), shapes_of(second), []])
    one, other = digest_signature(signature).split(",")
    assert one != other
    assert len(one) == 8
    assert digest_signature(json.dumps([shapes_of(second)])) == other


def test_what_was_never_seen_is_not_expected() -> None:
    assert digest_signature("") == digest_signature("[]") == digest_signature("[[]]") == ""
