"""Layers: parameters, and the functional pairs that use them. `forward(x) -> (out, cache)`, `backward(d_out, cache) -> d_x`."""

from tinymm.layers.attention import JointAttention, KeysValues, MultiHeadAttention
from tinymm.layers.convolution import AvgPool2d, Conv2d, ConvBlock, MaxPool2d, Slopes
from tinymm.layers.embedding import Embedding, LearnedPositions
from tinymm.layers.feed_forward import FeedForward, GatedFeedForward
from tinymm.layers.image_encoder import ImageEncoder
from tinymm.layers.linear import Linear
from tinymm.layers.module import Module, Parameter
from tinymm.layers.normalization import NORMALIZATIONS, BatchNorm, LayerNorm, RMSNorm
from tinymm.layers.recurrence import LSTM
from tinymm.layers.residual_encoder import ResidualBlock, ResidualImageEncoder
from tinymm.layers.transformer import Residual, TransformerBlock

__all__ = ["AvgPool2d", "BatchNorm", "Conv2d", "ConvBlock", "Embedding", "FeedForward", "GatedFeedForward", "ImageEncoder", "JointAttention", "KeysValues", "LSTM",
           "LayerNorm", "LearnedPositions", "Linear", "MaxPool2d", "Module", "MultiHeadAttention", "Parameter", "Residual", "ResidualBlock", "ResidualImageEncoder", "Slopes",
           "RMSNorm", "NORMALIZATIONS", "TransformerBlock"]
