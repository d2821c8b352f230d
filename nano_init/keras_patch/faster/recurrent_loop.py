"""The loop of a recurrent layer over its steps, with a hand-written backward pass.

The inputs of all steps are multiplied at once before the loop. The backward loop only propagates
states, and after it each weight's gradient is one product over all steps. Gates and carried states
are float32 under bfloat16 too; matrix products use the compute dtype, as in Keras.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.recurrent_layout import Layout, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Layer, Tensor, Variable

__all__ = ["Gates", "RecurrentLoop", "Weights", "wide"]


@frozen
class Gates:
    """The elementwise part of a recurrent cell, forward and backward; all float32.

    Args:
        count: The number of tensors that a step saves for the backward pass.
        own: The number of gates whose gradient by the projected inputs differs from that by the
            recurrent product: 0, or 1 for the last gate.
        step: `(projected, recurrent, states, axis) -> states, saved`. The first two are the
            step's inputs and its previous output, each multiplied by its kernel and with its
            bias, the gates concatenated along the axis; `states` is a list of tensors of one
            gate's shape, the output first; `saved` are `count` such tensors.
        back: `(saved, d_states) -> d_products, d_states`. The first are the gradients by the
            products, of one gate's shape each: that of the projected inputs for the `own` gate,
            and those by the recurrent product for all gates. Those by the states exclude the
            gradient through the recurrent product; None if there is no other.
    """

    count: int
    own: int
    step: Callable[..., Any]
    back: Callable[..., Any]


@frozen
class Weights:
    """The weights of a recurrent layer in the compute dtype, ready for its products.

    Args:
        forward: The weights of the inputs, with the bias if any, and of the previous output.
        back: Both transposed, without the bias.
        bias: The bias of the recurrent product, `(gates * units)` or None.
        units: The layer's units.
        gates: The units of all gates together.
    """

    forward: tuple[Tensor, Tensor]
    back: tuple[Tensor, Tensor]
    bias: Tensor | None
    units: int
    gates: int

    @classmethod
    def of(
        cls, cell: Layer, biases: tuple[Tensor | None, Tensor | None], dtype: DType, layout: Layout
    ) -> Weights:
        """Return the weights cast and transposed, once for all steps.

        Args:
            cell: Keras's cell, with its two kernels.
            biases: The biases of the input and of the recurrent product, or None.
            dtype: The compute dtype.
            layout: The layout of the loop's tensors.
        """
        import tensorflow as tf

        def narrowed(weight: Variable | Tensor | None) -> Any:
            return None if weight is None else tf.cast(tf.convert_to_tensor(weight), dtype)

        kernel, recurrent = narrowed(cell.kernel), narrowed(cell.recurrent_kernel)
        bias, recurrent_bias = (narrowed(each) for each in biases)
        return cls(
            forward=(layout.operand(kernel, bias), layout.operand(recurrent)),
            back=tuple(layout.operand(tf.transpose(each)) for each in (kernel, recurrent)),
            bias=recurrent_bias,
            units=recurrent.shape[0],
            gates=recurrent.shape[1],
        )


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32."""
    import tensorflow as tf

    # Not `tf.cast`: under the patch it may use another tensor, which no gradient reaches.
    return tensor if tensor.dtype == tf.float32 else tf.raw_ops.Cast(x=tensor, DstT=tf.float32)


def _narrow(tensor: Tensor, dtype: DType) -> Tensor:
    import tensorflow as tf

    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


@frozen
class RecurrentLoop:
    """A loop over a sequence.

    Args:
        gates: The cell's arithmetic.
        layout: The layout of a step's tensors.
        is_on: None, or the mask, bool of `(time, 1, batch)`, or `(time, batch, 1)` if the layout
            has the batch first.
        sequences: Whether every step's output is needed.
    """

    gates: Gates
    layout: Layout
    is_on: Tensor | None
    sequences: bool

    def run(
        self, steps: Tensor, weights: Weights, states: list[Tensor]
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Return the outputs of all steps (None unless needed) and the last states.

        Args:
            steps: The inputs, `(time, batch, features)`.
            weights: The layer's weights.
            states: The initial states in the layout.

        Returns:
            Outputs, time first, and states.
        """
        import tensorflow as tf

        bias = [] if weights.bias is None else [weights.bias]

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def run(steps: Tensor, *others: Tensor) -> Any:
            operands, rest = others[:2], others[2:]
            given = (operands, list(rest[: len(bias)]), list(rest[len(bias) :]))
            outputs, last, saved = self._forward(steps, *given)

            def gradient(*upstream: Tensor) -> Any:
                if _is_saving():
                    return self._differentiated(steps, *given, upstream)
                stacked, d_states = self._back(weights, outputs, saved, upstream)
                before = tf.concat([given[-1][0][None], outputs[:-1]], 0)
                return [*self._gradients(weights, steps, before, stacked), *d_states]

            return ([outputs, *last] if self.sequences else last), gradient

        results = list(run(steps, *weights.forward, *bias, *states))
        return (results[0], results[1:]) if self.sequences else (None, results)

    def _forward(
        self, steps: Tensor, operands: Sequence[Tensor], bias: list[Tensor], states: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Return the outputs of all steps, the last states, and tensors for the backward pass."""
        import tensorflow as tf

        layout, dtype, count = self.layout, steps.dtype, size_of(steps)
        projected = layout.project(operands[0], self._with_ones(steps, operands[0]))
        # Broadcast once: broadcasting a vector in every step takes longer than the sum.
        spread = [layout.spread(vector, like=states[0]) for vector in bias]
        recur = layout.multiplier(operands[1], states[0].shape[1 - layout.axis])

        def step(t: Tensor, output: Tensor, *rest: Any) -> Any:
            *old, outputs, saved = rest
            product = sum(spread, recur(output))
            new, kept = self.gates.step(projected[t], product, old, layout.axis)
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

    def _with_ones(self, steps: Tensor, operand: Tensor) -> Tensor:
        """Return the inputs with a feature of ones for the bias, if the operand has one."""
        import tensorflow as tf

        if steps.shape[2] == operand.shape[1 - self.layout.axis]:
            return steps
        ones = tf.ones([size_of(steps), size_of(steps, 1), 1], steps.dtype)
        return tf.concat([steps, ones], 2)

    def _differentiated(
        self,
        steps: Tensor,
        operands: Sequence[Tensor],
        bias: list[Tensor],
        states: list[Tensor],
        upstream: Sequence[Tensor],
    ) -> Any:
        # A SavedModel cannot keep the tensor arrays of saved values.
        import tensorflow as tf

        sources = [steps, *operands, *bias, *states]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs, last, _ = self._forward(steps, operands, bias, states)
        targets = [outputs, *last] if self.sequences else last
        return tape.gradient(targets, sources, list(upstream))

    def _gradients(
        self, weights: Weights, steps: Tensor, before: Tensor, stacked: Tensor
    ) -> list[Tensor]:
        """Return the gradients by the inputs of all steps, the operands and the bias.

        Args:
            weights: The layer's weights.
            steps: The inputs.
            before: The previous outputs of all steps.
            stacked: What `_back` returned.
        """
        import tensorflow as tf

        layout = self.layout
        by_input, by_recurrent = self._products(layout.joined(stacked), weights)
        rows = self._with_ones(steps, weights.forward[0])
        d_steps = layout.turned(layout.multiply(weights.back[0], by_input))
        return [
            tf.reshape(d_steps, [size_of(steps, axis) for axis in range(3)]),
            layout.d_operand(by_input, tf.reshape(rows, [-1, rows.shape[2]])),
            layout.d_operand(by_recurrent, layout.rows(before)),
            *([] if weights.bias is None else [layout.summed(by_recurrent)]),
        ]

    def _products(self, joined: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the gradients by the projected inputs and by the recurrent product."""
        import tensorflow as tf

        if not self.gates.own:
            return joined, joined
        axis, own = self.layout.axis, self.gates.own * weights.units
        rest = [own, weights.gates - own, own]
        first, shared, last = tf.split(joined, rest, axis)
        # With the units first, the shared gates and those after them are already adjacent.
        by_recurrent = tf.concat([shared, last], axis) if axis else joined[own:]
        return tf.concat([shared, first], axis), by_recurrent

    def _back(
        self, weights: Weights, outputs: Tensor, saved: Any, upstream: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients by the products of all steps, and by the initial states."""
        import tensorflow as tf

        d_outputs, d_last = (upstream[0], upstream[1:]) if self.sequences else (None, upstream)
        dtype, count = outputs.dtype, size_of(outputs)
        recur = self.layout.multiplier(weights.back[1], outputs.shape[2 - self.layout.axis])

        def back(t: Tensor, *rest: Any) -> Any:
            *d_new, written = rest
            if d_outputs is not None:
                d_new[0] = d_new[0] + wide(d_outputs[t])
            is_on = None if self.is_on is None else self.is_on[t]
            d_products, d_old = self._back_step(saved.read(t), d_new, is_on, weights, recur)
            return (t - 1, *d_old, written.write(t, d_products))

        shape = list(outputs.shape[1:])
        shape[self.layout.axis] = weights.gates + self.gates.own * weights.units
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

    def _back_step(
        self,
        saved: Tensor,
        d_new: list[Tensor],
        is_on: Tensor | None,
        weights: Weights,
        recur: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        import tensorflow as tf

        axis, dtype = self.layout.axis, weights.back[1].dtype
        gates, d_old = self.gates.back(tf.unstack(saved, self.gates.count), d_new)
        d_products = tf.concat([_narrow(gate, dtype) for gate in gates], axis)
        if is_on is not None:
            d_products = tf.where(is_on, d_products, tf.zeros_like(d_products))
        first = self.gates.own * weights.units
        by_recurrent = d_products[:, first:] if axis else d_products[first:]
        through = wide(recur(by_recurrent))
        d_old = [through if d_old[0] is None else d_old[0] + through, *d_old[1:]]
        if is_on is not None:
            d_old = [tf.where(is_on, a, b) for a, b in zip(d_old, d_new, strict=True)]
        return d_products, d_old


def _is_saving() -> bool:
    from tensorflow.python.saved_model import save_context

    return bool(save_context.in_save_context())
