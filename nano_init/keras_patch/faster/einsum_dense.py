"""EinsumDense, and so MultiHeadAttention's projections, as one plain matrix product.

Keras 3 multiplies inputs of rank 3 by a matrix (keras/src/backend/tensorflow/numpy.py,
`einsum`). TensorFlow differentiates that as a batch of products that are summed afterwards
(tensorflow/python/ops/math_grad.py, `_BatchMatMulV2`). With all rows at once, the forward
product and both gradients are one matrix product each.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.row_matmul import multiply_rows
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor

__all__ = ["einsum_dense_replacements", "parse_contraction"]


def einsum_dense_replacements() -> Iterator[Replacement]:
    """Yield the replacements that multiply all rows of EinsumDense's inputs at once."""
    from keras.layers import EinsumDense

    original = vars(EinsumDense)["call"]
    faster = with_faster_path("einsum_dense", original, _applies, _multiply)
    yield Replacement(EinsumDense, "call", faster)


def parse_contraction(equation: str) -> int | None:
    """Return the number of axes that an equation sums, if it is a product of rows and a matrix.

    Args:
        equation: Two operands and a result, such as `"abc,cde->abde"` (1) or
            `"abcd,cde->abe"` (2).

    Returns:
        The number of summed axes, which are the last of the inputs and the first of the kernel, in
        the same order; None for any other equation, or if a plain product gains nothing (rank 2).
    """
    operands, arrow, result = equation.replace(" ", "").partition("->")
    inputs, comma, kernel = operands.partition(",")
    letters = inputs + kernel + result
    if not (arrow and comma and letters.isalpha()) or _repeats(inputs, kernel, result):
        return None
    for count in range(1, len(kernel) + 1):
        rows = inputs[:-count]
        is_product = inputs[-count:] == kernel[:count] and result == rows + kernel[count:]
        if is_product and len(rows) >= 2 and not set(rows) & set(kernel):
            return count
    return None


def _repeats(*terms: str) -> bool:
    return any(len(set(term)) < len(term) for term in terms)


def _applies(layer: Layer, inputs: Any, training: Any = None) -> bool:
    del training
    import tensorflow as tf

    count = parse_contraction(layer.equation)
    return (
        count is not None
        and isinstance(inputs, tf.Tensor)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and inputs.dtype.name == layer.compute_dtype
        and inputs.shape.rank == len(layer.equation.replace(" ", "").partition(",")[0])
        and None not in inputs.shape[-count:]
        # A size of 0 cannot be inferred next to another one.
        and 0 not in inputs.shape
        and getattr(layer, "quantization_mode", None) is None
        and inputs.shape[-count:] == tuple(layer.kernel.shape)[:count]
    )


def _multiply(layer: Layer, inputs: Tensor, training: Any = None) -> Tensor:
    del training
    import tensorflow as tf

    count = parse_contraction(layer.equation) or 1
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    columns = kernel.shape[count:]
    matrix = tf.reshape(kernel, [kernel.shape[:count].num_elements(), columns.num_elements()])
    result = multiply_rows(inputs, matrix, columns, count)
    if layer.bias is not None:
        result = tf.add(result, tf.cast(tf.convert_to_tensor(layer.bias), result.dtype))
    return result if layer.activation is None else layer.activation(result)
