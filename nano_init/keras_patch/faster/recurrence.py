"""Run a recurrent layer over a whole sequence at once, if its cell is a known one.

Keras 3 runs a cell in a loop (keras/src/backend/tensorflow/rnn.py), and TensorFlow differentiates
that loop: every step casts the weights, multiplies its inputs by the kernel, and in the backward
loop adds to the gradient of each weight. `recurrent_loop.py` has a different loop. This module
decides where it applies, and converts its inputs and outputs.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.batch_split import count_parts, join_batch, split_batch
from nano_init.keras_patch.faster.processor import is_slow_in_bfloat16
from nano_init.keras_patch.faster.recurrent_layout import Layout
from nano_init.keras_patch.faster.recurrent_loop import Gates, RecurrentLoop, Weights, wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor

__all__ = ["can_run", "drop_inputs", "run_layer"]

_DTYPES = ("float32", "bfloat16")


def can_run(
    layer: Layer, cell_class: Any, sequences: Any, states: Any, mask: Any, training: Any
) -> bool:
    """Say whether `run_layer` computes a layer's call.

    Args:
        layer: An LSTM or GRU, built.
        cell_class: The exact class of its cell; subclasses do not match.
        sequences: The layer's input, as passed to `inner_loop`.
        states: The initial states, in a list.
        mask: None or the mask.
        training: Whether the cell's dropout is on.
    """
    import tensorflow as tf
    from keras import activations

    cell = layer.cell
    return (
        # Eagerly the loop runs in Python, and saved tensors stay even without a backward pass.
        not tf.executing_eagerly()
        # If `training` is a tensor, the choice between two graphs cannot be made here.
        and (training is None or isinstance(training, (bool, int)))
        and type(cell) is cell_class
        and cell.activation is activations.tanh
        and cell.recurrent_activation is activations.sigmoid
        and cell.implementation == 2
        and cell.recurrent_dropout == 0
        # Earlier versions of Keras 3 draw one mask per gate.
        and not (_drops(cell, training) and getattr(cell, "dropout_mask_count", None))
        and not layer.unroll
        and getattr(layer, "use_cudnn", "auto") is not True
        and cell.compute_dtype in _DTYPES
        and all(_is_tensor(t, cell.compute_dtype) for t in (sequences, *states))
        and (mask is None or (isinstance(mask, tf.Tensor) and mask.shape.rank in (2, 3)))
        and sequences.shape.rank == 3
        and sequences.shape[1] != 0
        and sequences.shape[2] == cell.kernel.shape[0]
        # There Keras uses cuDNN.
        and not tf.config.list_logical_devices("GPU")
    )


def drop_inputs(cell: Layer, sequences: Tensor, training: Any) -> Tensor:
    """Return the inputs after the cell's own dropout, with one mask for all steps.

    Args:
        cell: An LSTM or GRU cell.
        sequences: `(batch, time, features)`.
        training: Whether dropout is on.
    """
    if not _drops(cell, training):
        return sequences
    return sequences * cell.get_dropout_mask(sequences[:, 0, :])[:, None, :]


def _drops(cell: Layer, training: Any) -> bool:
    return bool(training and 0.0 < cell.dropout < 1.0)


def _is_tensor(value: Any, dtype: str) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and value.dtype.name == dtype


def run_layer(
    layer: Layer,
    gates: Gates,
    sequences: Tensor,
    states: list[Tensor],
    mask: Tensor | None,
    *,
    biases: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the result of `inner_loop` of an LSTM or GRU.

    Args:
        layer: The layer.
        gates: Its cell's arithmetic.
        sequences: `(batch, time, features)`, in the compute dtype, with dropout applied.
        states: The initial states, `(batch, units)` each, in the compute dtype.
        mask: None, or `(batch, time)` or `(batch, time, 1)`, false where a step is skipped.
        biases: The biases of the input and of the recurrent product, each a tensor or None.

    Returns:
        The last output, the outputs (of one step unless the layer returns sequences), and the
        last states.
    """
    import tensorflow as tf

    if sequences.dtype != tf.bfloat16 or not is_slow_in_bfloat16():
        return _run_whole(layer, gates, sequences, states, mask, biases)
    # Each step of a loop in bfloat16 would cast the weights to float32.
    steps, *firsts = (wide(tensor) for tensor in (sequences, *states))
    last_output, outputs, last = _run_whole(layer, gates, steps, firsts, mask, biases)
    narrow = [tf.cast(tensor, tf.bfloat16) for tensor in (last_output, outputs, *last)]
    return narrow[0], narrow[1], narrow[2:]


def _run_whole(
    layer: Layer,
    gates: Gates,
    sequences: Tensor,
    states: list[Tensor],
    mask: Tensor | None,
    biases: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    import tensorflow as tf

    batch, dtype = sequences.shape[0], sequences.dtype
    parts = count_parts(batch)
    layout = Layout.of(dtype, batch and batch // parts)
    weights = Weights.of(layer.cell, biases, dtype, layout)
    divided = (split_batch(part, parts) for part in (sequences, mask, *states))
    found = [
        _run_part(layer, gates, layout, weights, rows, is_on, firsts)
        for rows, is_on, *firsts in zip(*divided, strict=True)
    ]
    last_outputs, outputs, lasts = zip(*found, strict=True)
    last_output = join_batch(last_outputs)
    last = [join_batch(state) for state in zip(*lasts, strict=True)]
    if not layer.return_sequences:
        return last_output, tf.expand_dims(last_output, 1), last
    return last_output, join_batch(outputs), last


def _run_part(
    layer: Layer,
    gates: Gates,
    layout: Layout,
    weights: Weights,
    rows: Tensor,
    mask: Tensor | None,
    states: list[Tensor],
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Return the same for a part of the batch, with outputs None unless they are needed."""
    import tensorflow as tf

    steps = tf.transpose(rows, [1, 0, 2])
    if layer.go_backwards:
        steps = tf.reverse(steps, [0])
    is_on = None if mask is None else _time_major_mask(mask, layer.go_backwards, layout)
    loop = RecurrentLoop(gates, layout, is_on, layer.return_sequences)
    outputs, last = loop.run(steps, weights, [layout.turned(state) for state in states])
    last_output = last[0]
    if is_on is not None:
        visible = is_on if layer.zero_output_for_mask else _has_begun(is_on)
        last_output = tf.where(visible[-1], last_output, tf.zeros_like(last_output))
        if outputs is not None:
            outputs = tf.where(visible, outputs, tf.zeros_like(outputs))
    if outputs is not None:
        outputs = layout.batch_first(outputs)
    last = [layout.turned(state) for state in last]
    return last[0] if is_on is None else layout.turned(last_output), outputs, last


def _time_major_mask(mask: Tensor, go_backwards: bool, layout: Layout) -> Tensor:
    # With an axis of one for the units.
    import tensorflow as tf

    mask = tf.cast(mask, tf.bool)
    mask = tf.transpose(mask if mask.shape.rank == 2 else mask[:, :, 0])
    mask = tf.expand_dims(mask, 1 + layout.axis)
    return tf.reverse(mask, [0]) if go_backwards else mask


def _has_begun(is_on: Tensor) -> Tensor:
    # Before its first step a sequence's output is zero, whatever the initial state is.
    import tensorflow as tf

    return tf.cumsum(tf.cast(is_on, tf.int32)) > 0
