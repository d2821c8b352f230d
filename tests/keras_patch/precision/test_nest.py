"""Any nest of arguments is mapped, and parts that do not change stay the same objects."""

from __future__ import annotations

import collections
import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from nano_init.keras_patch.precision.nest import map_leaves

Point = collections.namedtuple("Point", "x y")
leaves = st.one_of(st.integers(), st.booleans(), st.text(max_size=3), st.none(), st.floats())
nests = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.dictionaries(st.one_of(st.integers(), st.text(max_size=2)), inner, max_size=3),
    ),
    max_leaves=12,
)


@dataclasses.dataclass(frozen=True)
class Batch:
    x: float
    label: int
    size: int = dataclasses.field(init=False, default=1)


def flatten(value):
    if isinstance(value, dict):
        return [(key, flatten(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [flatten(item) for item in value]
    return value


@given(nests)
def test_unchanged_nests_are_the_same_object(nest):
    assert map_leaves(lambda leaf: leaf, nest) is nest


@given(nests)
def test_every_leaf_is_mapped_once_and_containers_keep_their_types(nest):
    def box(leaf):
        return ("boxed", leaf)

    def expected(value):
        if isinstance(value, dict):
            return {key: expected(item) for key, item in value.items()}
        if isinstance(value, Point):
            return Point(*map(expected, value))
        if isinstance(value, (list, tuple)):
            return type(value)(map(expected, value))
        return box(value)

    assert flatten(map_leaves(box, nest)) == flatten(expected(nest)) or nest != nest
    assert type(map_leaves(box, nest)) is type(expected(nest))


def test_class_keys_and_order_of_dictionaries_are_kept():
    value = collections.defaultdict(list, {3: 1.0, "a": 2.0, None: 3.0})
    result = map_leaves(lambda leaf: leaf * 2, value)
    assert list(result.items()) == [(3, 2.0), ("a", 4.0), (None, 6.0)]
    assert result["new"] == []
    assert value[3] == 1.0


def test_a_frozen_dataclass_is_copied():
    batch = Batch(1.5, 7)
    result = map_leaves(lambda leaf: leaf + 1 if isinstance(leaf, float) else leaf, batch)
    assert (result, batch.x) == (Batch(2.5, 7), 1.5)
