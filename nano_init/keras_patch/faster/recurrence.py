"""A whole sequence of a recurrent layer, with a backward pass written by hand.

Keras 3 steps a cell through a loop (keras/src/backend/tensorflow/rnn.py), and TensorFlow
differentiates that loop: every step casts the weights, multiplies its inputs by the kernel,
and in the backward loop adds to the gradient of each weight. Here the inputs of all steps are
multiplied at once before the loop, the backward loop goes from state to state alone, and each
weight's gradient is one product over all steps after it. Gates and carried states are float32
under bfloat16 too; matrix products take the compute dtype, as Keras's do.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.halves import count_parts, join_batch, split_batch
from nano_init.keras_patch.faster.loop_product import LoopProduct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Gates", "can_run", "drop_inputs", "run_layer", "wide"]

_DTYPES = ("float32", "bfloat16")


@frozen
class Gates:
    """The elementwise part of a recurrent cell, forward and backward; all float32.

    Args:
        count: Tensors that a step saves for its way back.
        products: 1 if the gradients by the projected inputs and by the recurrent product are
            the same, else 2.
        step: `(projected, recurrent, states) -> states, saved`. The first two are the step's
            inputs and its previous output, each times its kernel and with its bias, of shape
            `(batch, gates * units)`; `states` are a list of `(batch, units)`, the output
            first; `saved` are `count` of them.
        back: `(saved, d_states) -> d_products, d_states`. The first are the gradients by the
            recurrent product and, if they differ, by the projected inputs: a list of one
            `(batch, units)` for each gate. Those by the states are without what flows through
            the recurrent product, None where nothing is left.
    """

    count: int
    products: int
    step: Callable[..., Any]
    back: Callable[..., Any]


def can_run(
    layer: Any, cell_class: Any, sequences: Any, states: Any, mask: Any, training: Any
) -> bool:
    """Say whether a layer's call is what `run_layer` computes.

    Args:
        layer: An LSTM or GRU, built.
        cell_class: The class that its cell must be of, not of a child of it.
        sequences: The layer's input, as `inner_loop` gets it.
        states: The initial states, in a list.
        mask: None or the mask.
        training: Whether the cell's dropout is on.
    """
    import tensorflow as tf
    from keras import activations

    cell = layer.cell
    return (
        # Eagerly a loop runs in Python, and what a step saves is held even if none goes back.
        not tf.executing_eagerly()
        # A tensor that decides about training cannot choose between two graphs here.
        and (training is None or isinstance(training, (bool, int)))
        and type(cell) is cell_class
        and cell.activation is activations.tanh
        and cell.recurrent_activation is activations.sigmoid
        and cell.implementation == 2
        and cell.recurrent_dropout == 0
        # Earlier versions of Keras 3 drew one mask for each gate.
        and not (_drops(cell, training) and getattr(cell, "dropout_mask_count", None))
        and not layer.unroll
        and getattr(layer, "use_cudnn", "auto") is not True
        and cell.compute_dtype in _DTYPES
        and all(_is_tensor(t, cell.compute_dtype) for t in (sequences, *states))
        and (mask is None or (isinstance(mask, tf.Tensor) and mask.shape.rank in (2, 3)))
        and sequences.shape.rank == 3
        and sequences.shape[1] != 0
        and sequences.shape[2] == cell.kernel.shape[0]
        # There Keras hands the sequence to cuDNN.
        and not tf.config.list_logical_devices("GPU")
    )


def drop_inputs(cell: Any, sequences: Any, training: Any) -> Any:
    """Return the inputs with the cell's own dropout mask, one for all steps, applied.

    Args:
        cell: An LSTM or GRU cell.
        sequences: `(batch, time, features)`.
        training: Whether dropout is on.
    """
    if not _drops(cell, training):
        return sequences
    return sequences * cell.get_dropout_mask(sequences[:, 0, :])[:, None, :]


def _drops(cell: Any, training: Any) -> bool:
    return bool(training and 0.0 < cell.dropout < 1.0)


def _is_tensor(value: Any, dtype: str) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and value.dtype.name == dtype


def run_layer(
    layer: Any, gates: Gates, sequences: Any, states: list[Any], mask: Any, *, biases: Any
) -> tuple[Any, Any, list[Any]]:
    """Return what `inner_loop` of an LSTM or GRU returns.

    Args:
        layer: The layer.
        gates: Its cell's arithmetic.
        sequences: `(batch, time, features)`, in the compute dtype, with dropout applied.
        states: The initial states, `(batch, units)` each, in the compute dtype.
        mask: None, or `(batch, time)` or `(batch, time, 1)`, false where a step is left out.
        biases: The biases of the input and of the recurrent product, each a tensor or None.

    Returns:
        The last output, the outputs (of one step unless the layer returns sequences), and the
        last states.
    """
    import tensorflow as tf

    dtype = sequences.dtype
    projected = _project(sequences, layer.cell.kernel, biases[0], layer.go_backwards)
    is_on = None if mask is None else _time_major_mask(mask, layer.go_backwards)
    recur = _Recurrence(gates, is_on, layer.return_sequences)
    kept = [w for w in (layer.cell.recurrent_kernel, biases[1]) if w is not None]
    outputs, last = recur.run(projected, [_weight(w, dtype) for w in kept], states)
    last_output = last[0]
    if is_on is not None:
        visible = is_on if layer.zero_output_for_mask else _has_begun(is_on)
        last_output = tf.where(visible[-1], last_output, tf.zeros_like(last_output))
        if outputs is not None:
            outputs = tf.where(visible, outputs, tf.zeros_like(outputs))
    if outputs is None:
        return last_output, tf.expand_dims(last_output, 1), last
    return last_output, tf.transpose(outputs, [1, 0, 2]), last


def _project(sequences: Any, kernel: Any, bias: Any, go_backwards: bool) -> Any:
    # Of shape (time, batch, gates * units), in the order of the steps.
    import tensorflow as tf

    steps = tf.transpose(sequences, [1, 0, 2])
    if go_backwards:
        steps = tf.reverse(steps, [0])
    rows = tf.reshape(steps, [-1, sequences.shape[2]])
    product = _with_steps(tf.matmul(rows, _weight(kernel, rows.dtype)), steps)
    # The reshape before it keeps TensorFlow from fusing the two: oneDNN 3.7's inner product in
    # bfloat16 (`x64:gemm:jit`) takes three times as long with AMX.
    return product if bias is None else tf.nn.bias_add(product, _weight(bias, rows.dtype))


def _with_steps(rows: Any, like: Any) -> Any:
    # Sizes that are known stay known; with an empty batch none can be inferred.
    import tensorflow as tf

    size = tf.shape(like)
    sizes = [size[axis] if like.shape[axis] is None else like.shape[axis] for axis in (0, 1)]
    return tf.reshape(rows, [*sizes, rows.shape[-1]])


def _weight(variable: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(variable), dtype)


def _time_major_mask(mask: Any, go_backwards: bool) -> Any:
    import tensorflow as tf

    mask = tf.cast(mask, tf.bool)
    mask = tf.transpose(mask[:, :, None] if mask.shape.rank == 2 else mask, [1, 0, 2])
    return tf.reverse(mask, [0]) if go_backwards else mask


def _has_begun(is_on: Any) -> Any:
    # Before its first step a sequence's output is zero, whatever the initial state is.
    import tensorflow as tf

    return tf.cumsum(tf.cast(is_on, tf.int32)) > 0


def wide(tensor: Any) -> Any:
    """Return a tensor in float32."""
    import tensorflow as tf

    # Not `tf.cast`: under the patch that may start from another tensor, which no gradient reaches.
    return tensor if tensor.dtype == tf.float32 else tf.raw_ops.Cast(x=tensor, DstT=tf.float32)


def _narrow(tensor: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


@frozen
class _Recurrence:
    """One way of stepping through a sequence.

    Args:
        gates: The cell's arithmetic.
        is_on: None, or the mask, bool of `(time, batch, 1)`.
        sequences: Whether every step's output is wanted.
    """

    gates: Gates
    is_on: Any
    sequences: bool

    def run(self, projected: Any, weights: list[Any], states: list[Any]) -> tuple[Any, list[Any]]:
        """Return the outputs of all steps (None unless wanted) and the last states.

        Args:
            projected: As `_project` returns it.
            weights: The recurrent kernel, and its bias if there is one.
            states: The initial states.
        """
        import tensorflow as tf

        count = len(weights)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def run(projected: Any, *others: Any) -> Any:
            weights, states = list(others[:count]), list(others[count:])
            outputs, last, saved = self._forward_halves(projected, weights, states)

            def gradient(*upstream: Any) -> Any:
                if _is_saving():
                    return self._differentiated(projected, weights, states, upstream)
                return self._backward(weights, states, outputs, saved, *upstream)

            return ([outputs, *last] if self.sequences else last), gradient

        results = list(run(projected, *weights, *states))
        return (results[0], results[1:]) if self.sequences else (None, results)

    def _forward_halves(
        self, projected: Any, weights: list[Any], states: list[Any]
    ) -> tuple[Any, list[Any], tuple[Any, ...]]:
        """Return the outputs of all steps, the last states, and what each half saved."""
        parts = count_parts(projected)
        inputs, masks = (split_batch(part, parts, 1) for part in (projected, self.is_on))
        firsts = zip(*(split_batch(state, parts, 0) for state in states), strict=True)
        batches = zip(inputs, masks, firsts, strict=True)
        found = [self._forward(rows, weights, list(first), on) for rows, on, first in batches]
        outputs, lasts, saved = zip(*found, strict=True)
        last = [join_batch(state, 0) for state in zip(*lasts, strict=True)]
        return join_batch(outputs, 1), last, saved

    def _forward(
        self, projected: Any, weights: list[Any], states: list[Any], mask: Any
    ) -> tuple[Any, list[Any], Any]:
        import tensorflow as tf

        dtype, steps = projected.dtype, _size(projected)
        inputs = _array(projected)
        masks = None if mask is None else _array(mask)
        shape = states[0].shape
        multiply = LoopProduct.of(weights[0], shape[0])

        def step(t: Any, output: Any, *rest: Any) -> Any:
            *old, outputs, saved = rest
            recurrent = multiply(output)
            if len(weights) > 1:
                recurrent = tf.nn.bias_add(recurrent, weights[1])
            new, kept = self.gates.step(inputs.read(t), recurrent, old)
            if masks is not None:
                is_on = masks.read(t)
                new = [tf.where(is_on, a, b) for a, b in zip(new, old, strict=True)]
            output = _narrow(new[0], dtype)
            written = outputs.write(t, output), saved.write(t, tf.stack(kept))
            return (t + 1, output, *new, *written)

        first = [wide(state) for state in states]
        outputs = _empty(dtype, steps, shape)
        saved = _empty(tf.float32, steps, [self.gates.count, *shape])
        _, _, *last, outputs, saved = tf.while_loop(
            lambda t, *_: t < steps,
            step,
            (tf.constant(0), states[0], *first, outputs, saved),
            maximum_iterations=steps,
        )
        return outputs.stack(), [_narrow(state, dtype) for state in last], saved

    def _differentiated(
        self, projected: Any, weights: list[Any], states: list[Any], upstream: Any
    ) -> Any:
        # A SavedModel cannot hold on to the arrays of what was saved on the way.
        import tensorflow as tf

        sources = [projected, *weights, *states]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs, last, _ = self._forward(projected, weights, states, self.is_on)
        targets = [outputs, *last] if self.sequences else last
        return tape.gradient(targets, sources, list(upstream))

    def _backward(
        self, weights: list[Any], states: list[Any], outputs: Any, saved: Any, *upstream: Any
    ) -> list[Any]:
        import tensorflow as tf

        d_outputs, d_last = (upstream[0], upstream[1:]) if self.sequences else (None, upstream)
        multiply = LoopProduct.of(weights[0], d_last[0].shape[0], turned=True)
        parts, steps = len(saved), _size(outputs)
        lasts = zip(*(split_batch(d_state, parts, 0) for d_state in d_last), strict=True)
        given, masks = (split_batch(part, parts, 1) for part in (d_outputs, self.is_on))
        batches = zip(saved, given, masks, lasts, strict=True)
        found = [self._back(multiply, steps, a, b, c, list(last)) for a, b, c, last in batches]
        products, firsts = zip(*found, strict=True)
        d_products = [join_batch(product, 1) for product in zip(*products, strict=True)]
        d_states = [join_batch(state, 0) for state in zip(*firsts, strict=True)]
        before = tf.concat([states[0][None], outputs[:-1]], 0)
        rows = tf.reshape(d_products[0], [-1, d_products[0].shape[-1]])
        d_kernel = tf.matmul(tf.reshape(before, [-1, before.shape[-1]]), rows, transpose_a=True)
        d_bias = [tf.raw_ops.BiasAddGrad(out_backprop=rows)] if len(weights) > 1 else []
        d_states = [_narrow(d_state, outputs.dtype) for d_state in d_states]
        return [d_products[-1], d_kernel, *d_bias, *d_states]

    def _back(
        self, multiply: LoopProduct, steps: Any, saved: Any, d_outputs: Any, mask: Any, d_last: Any
    ) -> tuple[list[Any], list[Any]]:
        import tensorflow as tf

        given = None if d_outputs is None else _array(d_outputs)
        masks = None if mask is None else _array(mask)

        def back(t: Any, *rest: Any) -> Any:
            d_new, written = list(rest[: len(d_last)]), rest[len(d_last) :]
            if given is not None:
                d_new[0] = d_new[0] + wide(given.read(t))
            is_on = None if masks is None else masks.read(t)
            d_products, d_old = self._back_step(saved.read(t), d_new, is_on, multiply)
            pairs = zip(written, d_products, strict=True)
            return (t - 1, *d_old, *(array.write(t, d_product) for array, d_product in pairs))

        shape = [d_last[0].shape[0], multiply.rows]
        arrays = [_empty(multiply.dtype, steps, shape) for _ in range(self.gates.products)]
        _, *found = tf.while_loop(
            lambda t, *_: t >= 0,
            back,
            (tf.convert_to_tensor(steps) - 1, *(wide(d) for d in d_last), *arrays),
            maximum_iterations=steps,
        )
        d_states, arrays = found[: len(d_last)], found[len(d_last) :]
        return [array.stack() for array in arrays], d_states

    def _back_step(self, saved: Any, d_new: list[Any], is_on: Any, multiply: LoopProduct) -> Any:
        import tensorflow as tf

        gradients, d_old = self.gates.back(tf.unstack(saved, self.gates.count), d_new)
        d_products = [
            tf.concat([_narrow(gate, multiply.dtype) for gate in gates], 1) for gates in gradients
        ]
        if is_on is not None:
            d_products = [tf.where(is_on, d, tf.zeros_like(d)) for d in d_products]
        through = wide(multiply(d_products[0]))
        d_old = [through if d_old[0] is None else d_old[0] + through, *d_old[1:]]
        if is_on is not None:
            d_old = [tf.where(is_on, a, b) for a, b in zip(d_old, d_new, strict=True)]
        return d_products, d_old


def _is_saving() -> bool:
    from tensorflow.python.saved_model import save_context

    return bool(save_context.in_save_context())


def _size(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]


def _array(tensor: Any) -> Any:
    import tensorflow as tf

    array = tf.TensorArray(tensor.dtype, _size(tensor), element_shape=tensor.shape[1:])
    return array.unstack(tensor)


def _empty(dtype: Any, steps: Any, shape: Any) -> Any:
    import tensorflow as tf

    return tf.TensorArray(dtype, steps, element_shape=shape)
