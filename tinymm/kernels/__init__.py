"""The speed of tinymm: every name of `tinymm.functional`, some of them computed by compiled numba kernels.

The kernels are twins: the same names, arguments and results as the functional pairs. A name for which there is no twin yet
is the functional one, so that a layer finds every pair here.

Read the files in this order: attention_tiles (the algorithm), tile_arithmetic (what happens in one tile: first in plain loops, then
with vector instructions), registers (the vector instructions), attention (the arguments); and beside them threads and compilation.
"""

from tinymm.functional import *  # noqa: F403   all pairs; the twins below replace some of them
from tinymm.functional import __all__ as _functional_names
from tinymm.kernels.activations import GeluCache, ReluCache, gelu_backward, gelu_forward, relu_backward, relu_forward
from tinymm.kernels.attention import (
    AttentionCache, attention_backward, attention_backward_steps, attention_forward, readable_attention_backward,
    readable_attention_forward,
)
from tinymm.kernels.convolution import Conv2dCache, conv2d_backward, conv2d_forward
from tinymm.kernels.embedding import embedding_backward
from tinymm.kernels.linear import linear_backward, linear_forward
from tinymm.kernels.losses import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from tinymm.kernels.normalization import (
    BatchNormCache, LayerNormCache, batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward,
)
from tinymm.kernels.pooling import MaxPool2dCache, max_pool2d_backward, max_pool2d_forward
from tinymm.kernels.threads import set_thread_count, thread_count, use_threads

__all__ = [*_functional_names, "readable_attention_backward", "readable_attention_forward", "set_thread_count", "thread_count",
           "use_threads"]
