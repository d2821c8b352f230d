"""The loop of a recurrent layer through its steps, with a way back written by hand.

The inputs of all steps are multiplied at once before the loop, the backward loop goes from state
to state alone, and each weight's gradient is one product over all steps after it. Gates and
carried states are float32 under bfloat16 too; matrix products take the compute dtype, as Keras's
do.

Units come first: a step's tensors are `(units, batch)`. So the weights are the first operand of
every product. oneDNN rearranges the second one at each call (the VNNI layout of bfloat16,
src/cpu/x64/matmul/brgemm_matmul_copy_utils.cpp), which for the weights of a loop takes longer
than their product with a few rows. And a gate is a slice of a product that copies nothing.
"""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Gates", "RecurrentLoop", "Weights", "wide"]


@frozen
class Gates:
    """The elementwise part of a recurrent cell, forward and backward; all float32.

    Args:
        count: Tensors that a step saves for its way back.
        own: How many gates see the projected inputs with another gradient than the recurrent
            product: 0, or 1 for the last gate.
        step: `(projected, recurrent, states) -> states, saved`. The first two are the step's
            inputs and its previous output, each times its kernel and with its bias, of shape
            `(gates * units, batch)`; `states` are a list of `(units, batch)`, the output
            first; `saved` are `count` of them.
        back: `(saved, d_states) -> d_products, d_states`. The first are the gradients by the
            products, `(units, batch)` each: that of the projected inputs for the `own` gate,
            and those by the recurrent product for all gates. Those by the states are without
            what flows through the recurrent product, None where nothing is left.
    """

    count: int
    own: int
    step: Callable[..., Any]
    back: Callable[..., Any]


@frozen
class Weights:
    """The weights of a recurrent layer in the compute dtype.

    Args:
        kernel: `(features, gates * units)`.
        recurrent: `(units, gates * units)`.
        turned: Both transposed, as the products forward take them.
        biases: Of the input and of the recurrent product, `(gates * units)` or None.
    """

    kernel: Any
    recurrent: Any
    turned: tuple[Any, Any]
    biases: tuple[Any, Any]

    @classmethod
    def of(cls, kernel: Any, recurrent: Any, biases: Any, dtype: Any) -> Weights:
        """Return them cast and turned, once for all steps.

        Args:
            kernel: A variable or tensor, as in Keras's cell.
            recurrent: The recurrent kernel, as in Keras's cell.
            biases: The biases of the input and of the recurrent product, or None.
            dtype: The compute dtype.
        """
        import tensorflow as tf

        kernels = [tf.cast(tf.convert_to_tensor(each), dtype) for each in (kernel, recurrent)]
        given = [b if b is None else tf.cast(tf.convert_to_tensor(b), dtype) for b in biases]
        turned = [tf.transpose(each) for each in kernels]
        return cls(kernels[0], kernels[1], (turned[0], turned[1]), (given[0], given[1]))


def wide(tensor: Any) -> Any:
    """Return a tensor in float32."""
    import tensorflow as tf

    # Not `tf.cast`: under the patch that may start from another tensor, which no gradient reaches.
    return tensor if tensor.dtype == tf.float32 else tf.raw_ops.Cast(x=tensor, DstT=tf.float32)


def _narrow(tensor: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


@frozen
class RecurrentLoop:
    """One way of stepping through a sequence.

    Args:
        gates: The cell's arithmetic.
        is_on: None, or the mask, bool of `(time, 1, batch)`.
        sequences: Whether every step's output is wanted.
    """

    gates: Gates
    is_on: Any
    sequences: bool

    def run(self, steps: Any, weights: Weights, states: list[Any]) -> tuple[Any, list[Any]]:
        """Return the outputs of all steps (None unless wanted) and the last states.

        Args:
            steps: The inputs, `(time, batch, features)`.
            weights: The layer's weights.
            states: The initial states, `(units, batch)`.

        Returns:
            Outputs of `(time, units, batch)`, and states of `(units, batch)`.
        """
        import tensorflow as tf

        has_bias = [bias is not None for bias in weights.biases]

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def run(steps: Any, kernel: Any, recurrent: Any, *others: Any) -> Any:
            rest = list(others)
            biases = [rest.pop(0) if has else None for has in has_bias]
            forward = (steps, kernel, recurrent, biases, rest)
            outputs, last, saved = self._forward(*forward)

            def gradient(*upstream: Any) -> Any:
                if _is_saving():
                    return self._differentiated(forward, upstream)
                stacked, d_states = self._back(weights.recurrent, outputs, saved, upstream)
                by_input, by_recurrent = self._products(stacked, weights.recurrent.shape)
                before = tf.concat([rest[0][None], outputs[:-1]], 0)
                given = zip((by_input, by_recurrent), has_bias, strict=True)
                return [
                    _d_steps(weights.kernel, by_input, steps),
                    tf.matmul(by_input, tf.reshape(steps, [-1, steps.shape[2]])),
                    tf.matmul(by_recurrent, _rows(before)),
                    *(_sum_columns(product) for product, has in given if has),
                    *d_states,
                ]

            return ([outputs, *last] if self.sequences else last), gradient

        biases = [bias for bias in weights.biases if bias is not None]
        results = list(run(steps, *weights.turned, *biases, *states))
        return (results[0], results[1:]) if self.sequences else (None, results)

    def _products(self, stacked: Any, shape: Any) -> tuple[Any, Any]:
        """Return the gradients by the projected inputs and by the recurrent product.

        Both are `(gates * units, time * batch)`, and share what they have in common.
        """
        import tensorflow as tf

        rows, own = _columns(stacked), self.gates.own * shape[0]
        by_recurrent = rows[own:]
        if not own:
            return by_recurrent, by_recurrent
        return tf.concat([rows[own : shape[1]], rows[:own]], 0), by_recurrent

    def _forward(
        self, steps: Any, kernel: Any, recurrent: Any, biases: list[Any], states: list[Any]
    ) -> tuple[Any, list[Any], Any]:
        """Return the outputs of all steps, the last states, and what is saved for the way back."""
        import tensorflow as tf

        dtype, count = steps.dtype, _size(steps)
        # A transposed matrix of its own: TensorFlow would fold a transposition of rank 2 into the
        # product, which then takes twice as long.
        projected = tf.matmul(kernel[None], steps, transpose_b=True)
        add_biases = [_adding(bias, states[0]) for bias in biases]

        def step(t: Any, output: Any, *rest: Any) -> Any:
            *old, outputs, saved = rest
            both = projected[t], tf.matmul(recurrent, output)
            pair = [add(product) for add, product in zip(add_biases, both, strict=True)]
            new, kept = self.gates.step(*pair, old)
            if self.is_on is not None:
                is_on = self.is_on[t]
                new = [tf.where(is_on, a, b) for a, b in zip(new, old, strict=True)]
            output = _narrow(new[0], dtype)
            return (t + 1, output, *new, outputs.write(t, output), saved.write(t, tf.stack(kept)))

        shape = states[0].shape
        outputs = tf.TensorArray(dtype, count, element_shape=shape)
        saved = tf.TensorArray(tf.float32, count, element_shape=[self.gates.count, *shape])
        _, _, *last, outputs, saved = tf.while_loop(
            lambda t, *_: t < count,
            step,
            (tf.constant(0), states[0], *(wide(state) for state in states), outputs, saved),
            maximum_iterations=count,
        )
        return outputs.stack(), [_narrow(state, dtype) for state in last], saved

    def _differentiated(self, forward: Any, upstream: Any) -> Any:
        # A SavedModel cannot hold on to the arrays of what was saved on the way.
        import tensorflow as tf

        steps, kernel, recurrent, biases, states = forward
        given = [bias for bias in biases if bias is not None]
        sources = [steps, kernel, recurrent, *given, *states]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs, last, _ = self._forward(*forward)
        targets = [outputs, *last] if self.sequences else last
        return tape.gradient(targets, sources, list(upstream))

    def _back(
        self, recurrent: Any, outputs: Any, saved: Any, upstream: Any
    ) -> tuple[Any, list[Any]]:
        """Return the gradients by the products of all steps, and by the initial states."""
        import tensorflow as tf

        d_outputs, d_last = (upstream[0], upstream[1:]) if self.sequences else (None, upstream)
        dtype, count = outputs.dtype, _size(outputs)

        def back(t: Any, *rest: Any) -> Any:
            *d_new, written = rest
            if d_outputs is not None:
                d_new[0] = d_new[0] + wide(d_outputs[t])
            is_on = None if self.is_on is None else self.is_on[t]
            d_products, d_old = self._back_step(saved.read(t), d_new, is_on, recurrent)
            return (t - 1, *d_old, written.write(t, d_products))

        units, columns = recurrent.shape
        shape = [columns + self.gates.own * units, outputs.shape[2]]
        _, *d_states, array = tf.while_loop(
            lambda t, *_: t >= 0,
            back,
            (
                *(tf.convert_to_tensor(count) - 1, *(wide(d) for d in d_last)),
                tf.TensorArray(dtype, count, element_shape=shape),
            ),
            maximum_iterations=count,
        )
        return array.stack(), [_narrow(d, dtype) for d in d_states]

    def _back_step(self, saved: Any, d_new: list[Any], is_on: Any, recurrent: Any) -> Any:
        import tensorflow as tf

        gates, d_old = self.gates.back(tf.unstack(saved, self.gates.count), d_new)
        d_products = tf.concat([_narrow(gate, recurrent.dtype) for gate in gates], 0)
        if is_on is not None:
            d_products = tf.where(is_on, d_products, tf.zeros_like(d_products))
        own = self.gates.own * recurrent.shape[0]
        through = wide(tf.matmul(recurrent, d_products[own:]))
        d_old = [through if d_old[0] is None else d_old[0] + through, *d_old[1:]]
        if is_on is not None:
            d_old = [tf.where(is_on, a, b) for a, b in zip(d_old, d_new, strict=True)]
        return d_products, d_old


def _adding(bias: Any, like: Any) -> Callable[[Any], Any]:
    """Return what adds a bias to a product of as many columns as a state; None adds nothing."""
    import tensorflow as tf

    if bias is None:
        return lambda product: product
    # Spread out once: columns that are spread out in every step take longer than the sum.
    spread = tf.tile(tf.expand_dims(bias, 1), [1, _size(like, 1)])
    return lambda product: product + spread


def _columns(stacked: Any) -> Any:
    # (time, rows, batch) as (rows, time * batch).
    import tensorflow as tf

    count = -1 if None in stacked.shape else stacked.shape[0] * stacked.shape[2]
    return tf.reshape(tf.transpose(stacked, [1, 0, 2]), [stacked.shape[1], count])


def _rows(stacked: Any) -> Any:
    # (time, columns, batch) as (time * batch, columns).
    import tensorflow as tf

    return tf.reshape(tf.transpose(stacked, [0, 2, 1]), [-1, stacked.shape[1]])


def _sum_columns(product: Any) -> Any:
    # oneDNN adds in float32.
    import tensorflow as tf

    ones = tf.ones([_size(product, 1), 1], product.dtype)
    return tf.squeeze(tf.matmul(product, ones), 1)


def _d_steps(kernel: Any, product: Any, steps: Any) -> Any:
    """Return the gradient by the inputs of all steps, `(time, batch, features)`."""
    import tensorflow as tf

    sizes = [_size(steps, axis) for axis in range(3)]
    return tf.reshape(tf.transpose(tf.matmul(kernel, product)), sizes)


def _is_saving() -> bool:
    from tensorflow.python.saved_model import save_context

    return bool(save_context.in_save_context())


def _size(tensor: Any, axis: int = 0) -> Any:
    import tensorflow as tf

    return tf.shape(tensor)[axis] if tensor.shape[axis] is None else tensor.shape[axis]
