"""Names for what TensorFlow and Keras hand over, for type checkers: empty when it is run.

To be imported under `TYPE_CHECKING`. The stubs know no attributes of these classes yet, so that
the names document a signature and check nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keras import Variable as Variable
    from keras.layers import Layer as Layer
    from keras.optimizers import Optimizer as Optimizer
    from tensorflow import IndexedSlices as IndexedSlices
    from tensorflow import Tensor as Tensor
