"""Layers: parameters, and the functional pairs that use them. `forward(x) -> (out, cache)`, `backward(d_out, cache) -> d_x`."""

from tinymm.layers.attention import JointAttention, MultiHeadAttention
from tinymm.layers.convolution import AvgPool2d, Conv2d, ConvBlock, MaxPool2d
from tinymm.layers.embedding import Embedding, LearnedPositions
from tinymm.layers.feed_forward import FeedForward
from tinymm.layers.image_encoder import ImageEncoder
from tinymm.layers.linear import Linear
from tinymm.layers.module import Module, Parameter
from tinymm.layers.normalization import BatchNorm, LayerNorm
from tinymm.layers.recurrence import LSTM
from tinymm.layers.transformer import Residual, TransformerBlock

__all__ = ["AvgPool2d", "BatchNorm", "Conv2d", "ConvBlock", "Embedding", "FeedForward", "ImageEncoder", "JointAttention", "LSTM",
           "LayerNorm", "LearnedPositions", "Linear", "MaxPool2d", "Module", "MultiHeadAttention", "Parameter", "Residual",
           "TransformerBlock"]
