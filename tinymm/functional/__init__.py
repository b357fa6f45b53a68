"""The math of tinymm: every forward beside its backward, pure functions on NumPy arrays, and nothing else.

    out, cache = NAME_forward(inputs...)        gradients of the inputs = NAME_backward(d_out, cache)

Read the files in this order: linear, activations, softmax, attention, losses; then normalization, embedding,
positions, dropout; for sequences recurrence, with binary_cross_entropy; and for images convolution, pooling;
for pairs of both contrastive, for answers that stand in the text span.
"""

from tinymm.functional.activations import (
    erf, gelu_backward, gelu_forward, GeluCache, relu_backward, relu_forward, ReluCache, sigmoid_backward,
    sigmoid_forward, SigmoidCache, swiglu_backward, swiglu_forward, SwigluCache, tanh_backward, tanh_forward, TanhCache,
)
from tinymm.functional.attention import (
    attention_backward, attention_backward_steps, attention_forward, attention_mask, AttentionCache,
)
from tinymm.functional.binary_cross_entropy import (
    binary_cross_entropy_backward, binary_cross_entropy_backward_steps, binary_cross_entropy_forward,
    BinaryCrossEntropyCache,
)
from tinymm.functional.contrastive import (
    info_nce_backward, info_nce_forward, InfoNCECache, l2_normalize_backward, l2_normalize_forward, L2NormalizeCache,
)
from tinymm.functional.convolution import (
    conv2d_backward, conv2d_forward, conv2d_reference_backward, conv2d_reference_forward, Conv2dCache,
    Conv2dReferenceCache,
)
from tinymm.functional.dropout import (
    dropout_backward, dropout_forward, DropoutCache,
)
from tinymm.functional.embedding import (
    embedding_backward, embedding_forward, EmbeddingCache,
)
from tinymm.functional.linear import (
    linear_backward, linear_forward, LinearCache,
)
from tinymm.functional.losses import (
    cross_entropy_backward, cross_entropy_backward_steps, cross_entropy_forward, CrossEntropyCache,
)
from tinymm.functional.normalization import (
    batch_norm_backward, batch_norm_backward_steps, batch_norm_forward, BatchNormCache, layer_norm_backward,
    layer_norm_backward_steps, layer_norm_forward, LayerNormCache, rms_norm_backward, rms_norm_backward_steps,
    rms_norm_forward, RMSNormCache,
)
from tinymm.functional.pooling import (
    avg_pool2d_backward, avg_pool2d_forward, AvgPool2dCache, max_pool2d_backward, max_pool2d_forward, MaxPool2dCache,
)
from tinymm.functional.positions import (
    learned_positions_backward, learned_positions_forward, LearnedPositionsCache, rotary_backward, rotary_forward,
    RotaryCache, sinusoidal_positions,
)
from tinymm.functional.recurrence import (
    lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward, LSTMCache, LSTMCellCache,
)
from tinymm.functional.softmax import (
    log_softmax_backward, log_softmax_forward, LogSoftmaxCache, softmax_backward, softmax_backward_steps,
    softmax_forward, SoftmaxCache,
)
from tinymm.functional.span import (
    best_span, span_cross_entropy_backward, span_cross_entropy_forward, SpanCrossEntropyCache,
)

__all__ = [
    "info_nce_backward", "info_nce_forward", "InfoNCECache", "l2_normalize_backward", "l2_normalize_forward",
    "L2NormalizeCache",
    "binary_cross_entropy_backward", "binary_cross_entropy_backward_steps", "binary_cross_entropy_forward",
    "BinaryCrossEntropyCache", "lstm_backward", "lstm_cell_backward", "lstm_cell_forward", "lstm_forward", "LSTMCache",
    "LSTMCellCache",
    "attention_backward", "attention_backward_steps", "attention_forward", "attention_mask", "AttentionCache",
    "avg_pool2d_backward", "avg_pool2d_forward", "AvgPool2dCache", "batch_norm_backward",
    "batch_norm_backward_steps", "batch_norm_forward", "BatchNormCache", "conv2d_backward", "conv2d_forward",
    "conv2d_reference_backward", "conv2d_reference_forward", "Conv2dCache", "Conv2dReferenceCache",
    "cross_entropy_backward", "cross_entropy_backward_steps", "cross_entropy_forward", "CrossEntropyCache",
    "dropout_backward", "dropout_forward", "DropoutCache", "embedding_backward", "embedding_forward",
    "EmbeddingCache", "erf", "gelu_backward", "gelu_forward", "GeluCache", "layer_norm_backward",
    "layer_norm_backward_steps", "layer_norm_forward", "LayerNormCache", "learned_positions_backward",
    "learned_positions_forward", "LearnedPositionsCache", "linear_backward", "linear_forward", "LinearCache",
    "log_softmax_backward", "log_softmax_forward", "LogSoftmaxCache", "max_pool2d_backward", "max_pool2d_forward",
    "MaxPool2dCache", "relu_backward", "relu_forward", "ReluCache", "sigmoid_backward", "sigmoid_forward",
    "SigmoidCache", "sinusoidal_positions", "softmax_backward", "softmax_backward_steps", "softmax_forward",
    "SoftmaxCache", "rms_norm_backward", "rms_norm_backward_steps", "rms_norm_forward", "RMSNormCache",
    "rotary_backward", "rotary_forward", "RotaryCache", "swiglu_backward", "swiglu_forward", "SwigluCache",
    "tanh_backward", "tanh_forward", "TanhCache", "best_span", "span_cross_entropy_backward", "span_cross_entropy_forward",
    "SpanCrossEntropyCache",
]
