"""Names for TensorFlow and Keras types, for type checkers only.

Import it under `TYPE_CHECKING`. The stubs do not declare the attributes of these classes yet, so
the names document signatures without checking them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from keras import Model as Model
    from keras import Variable as Variable
    from keras.callbacks import Callback as Callback
    from keras.layers import Layer as Layer
    from keras.metrics import Metric as Metric
    from keras.optimizers import Optimizer as Optimizer
    from tensorflow import DType as DType
    from tensorflow import Graph as Graph
    from tensorflow import IndexedSlices as IndexedSlices
    from tensorflow import Tensor as Tensor
    from tensorflow import TensorShape as TensorShape
    from tensorflow.data import Dataset as Dataset
    from tensorflow.distribute import Strategy as Strategy

    Gradient: TypeAlias = Tensor | IndexedSlices
