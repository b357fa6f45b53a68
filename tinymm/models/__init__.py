"""The systems, each in one file that reads from top to bottom. `tinymm.catalog` lists them."""

from tinymm.models.bert import BERTConfig, BERTEncoder, BERTModel
from tinymm.models.bert_classifier import BERTClassifier, BERTClassifierConfig
from tinymm.models.clip import CLIPConfig, CLIPModel
from tinymm.models.encoder_decoder import EncoderDecoderConfig, EncoderDecoderModel
from tinymm.models.gpt import GPTConfig, GPTModel
from tinymm.models.image_qa import ImageQA, ImageQAConfig
from tinymm.models.lstm import LSTMConfig, LSTMModel
from tinymm.models.multimodal_bert import MultimodalBERT, MultimodalBERTConfig
from tinymm.models.text_image import TextImageConfig, TextImageModel

__all__ = ["BERTClassifier", "BERTClassifierConfig", "BERTConfig", "BERTEncoder", "BERTModel", "CLIPConfig", "CLIPModel", "EncoderDecoderConfig",
           "EncoderDecoderModel", "GPTConfig", "GPTModel", "ImageQA", "ImageQAConfig", "LSTMConfig", "LSTMModel", "MultimodalBERT", "MultimodalBERTConfig", "TextImageConfig", "TextImageModel"]
