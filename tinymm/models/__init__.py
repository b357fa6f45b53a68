"""The systems, each in one file that reads from top to bottom. `tinymm.catalog` lists them."""

from tinymm.models.bert import BERTConfig, BERTEncoder, BERTModel
from tinymm.models.bert_classifier import BERTClassifier, BERTClassifierConfig
from tinymm.models.encoder_decoder import EncoderDecoderConfig, EncoderDecoderModel
from tinymm.models.lstm import LSTMConfig, LSTMModel
from tinymm.models.text_image import TextImageConfig, TextImageModel

__all__ = ["BERTClassifier", "BERTClassifierConfig", "BERTConfig", "BERTEncoder", "BERTModel", "EncoderDecoderConfig",
           "EncoderDecoderModel", "LSTMConfig", "LSTMModel", "TextImageConfig", "TextImageModel"]
