"""GRU over the whole sequence, with a hand-written backward pass.

The cell is Keras's with `reset_after` (keras/src/layers/rnn/gru.py, `GRUCell.call`): update,
reset and candidate gate in this order; h = z * h + (1 - z) * tanh(x + r * recurrent).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.recurrence import can_run, drop_inputs, run_layer
from nano_init.keras_patch.faster.recurrent_loop import Gates
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor

__all__ = ["gru_replacements"]


def gru_replacements() -> Iterator[Replacement]:
    """Yield the replacements that run GRU over all steps at once where possible."""
    from keras.layers import GRU

    original = vars(GRU)["inner_loop"]
    faster = with_faster_path("gru", original, _applies, _run)
    yield Replacement(GRU, "inner_loop", faster)


def _applies(
    layer: Layer, sequences: Any, initial_state: Any, mask: Any, training: Any = False
) -> bool:
    from keras.layers import GRUCell

    return layer.reset_after is True and can_run(
        layer, GRUCell, sequences, initial_state, mask, training
    )


def _run(
    layer: Layer, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: Any = False
) -> tuple[Tensor, Tensor, list[Tensor]]:
    import tensorflow as tf

    bias = layer.cell.bias
    biases = (None, None) if bias is None else tf.unstack(tf.convert_to_tensor(bias), 2)
    sequences = drop_inputs(layer.cell, sequences, training)
    gates = Gates(count=5, own=1, step=_step, back=_back)
    return run_layer(layer, gates, sequences, list(initial_state), mask, biases=biases)


def _step(
    projected: Tensor, recurrent: Tensor, states: list[Tensor], axis: int
) -> tuple[list[Tensor], list[Tensor]]:
    import tensorflow as tf

    from nano_init.keras_patch.faster.recurrent_loop import wide

    before = states[0]
    x_z, x_r, x_h = (wide(gate) for gate in tf.split(projected, 3, axis))
    h_z, h_r, h_h = (wide(gate) for gate in tf.split(recurrent, 3, axis))
    z, r = tf.sigmoid(x_z + h_z), tf.sigmoid(x_r + h_r)
    candidate = tf.tanh(x_h + r * h_h)
    return [z * before + (1.0 - z) * candidate], [z, r, candidate, h_h, before]


def _back(saved: list[Tensor], d_states: list[Tensor]) -> Any:
    z, r, candidate, h_h, before = saved
    d_h = d_states[0]
    d_h_z = d_h * z
    d_kept = d_h - d_h_z
    d_z = d_h_z * (1.0 - z) * (before - candidate)
    d_candidate = d_kept - d_kept * candidate * candidate
    d_h_h = d_candidate * r
    d_r = d_h_h * h_h * (1.0 - r)
    return [d_candidate, d_z, d_r, d_h_h], [d_h_z]
