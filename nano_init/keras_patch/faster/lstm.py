"""LSTM over the whole sequence, with a hand-written backward pass.

The cell is Keras's (keras/src/layers/rnn/lstm.py, `LSTMCell.call`): input, forget, candidate
and output gate in this order; c = f * c + i * g, h = o * tanh(c).
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

__all__ = ["lstm_replacements"]


def lstm_replacements() -> Iterator[Replacement]:
    """Yield the replacements that run LSTM over all steps at once where possible."""
    from keras.layers import LSTM

    original = vars(LSTM)["inner_loop"]
    faster = with_faster_path("lstm", original, _applies, _run)
    yield Replacement(LSTM, "inner_loop", faster)


def _applies(
    layer: Layer, sequences: Any, initial_state: Any, mask: Any, training: Any = False
) -> bool:
    from keras.layers import LSTMCell

    return can_run(layer, LSTMCell, sequences, initial_state, mask, training)


def _run(
    layer: Layer, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: Any = False
) -> tuple[Tensor, Tensor, list[Tensor]]:
    sequences = drop_inputs(layer.cell, sequences, training)
    gates = Gates(count=6, own=0, step=_step, back=_back)
    return run_layer(
        layer, gates, sequences, list(initial_state), mask, biases=(layer.cell.bias, None)
    )


def _step(
    projected: Tensor, recurrent: Tensor, states: list[Tensor], axis: int
) -> tuple[list[Tensor], list[Tensor]]:
    import tensorflow as tf

    from nano_init.keras_patch.faster.recurrent_loop import wide

    before = states[1]
    gates = [wide(gate) for gate in tf.split(projected + recurrent, 4, axis)]
    i, f, o = (tf.sigmoid(gates[place]) for place in (0, 1, 3))
    g = tf.tanh(gates[2])
    c = f * before + i * g
    squashed = tf.tanh(c)
    return [o * squashed, c], [i, f, g, o, before, squashed]


def _back(saved: list[Tensor], d_states: list[Tensor]) -> Any:
    i, f, g, o, before, squashed = saved
    d_h, d_c = d_states
    d_h_o = d_h * o
    d_c = d_c + (d_h_o - d_h_o * squashed * squashed)
    d_c_i, d_c_f = d_c * i, d_c * f
    d_i = d_c_i * g * (1.0 - i)
    d_f = d_c_f * before * (1.0 - f)
    d_g = d_c_i - d_c_i * g * g
    d_o = d_h_o * squashed * (1.0 - o)
    return [d_i, d_f, d_g, d_o], [None, d_c_f]
