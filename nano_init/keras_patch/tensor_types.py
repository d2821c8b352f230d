"""Names for what TensorFlow and Keras hand over, for type checkers: empty when it is run.

To be imported under `TYPE_CHECKING`. The stubs know no attributes of these classes yet, so that
the names document a signature and check nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
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
