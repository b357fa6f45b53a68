"""Data: what the models read, and how it becomes arrays."""

from tinymm.data.batches import IGNORE, Batch, BatchSettings, TrainingBatches, make_batch
from tinymm.data.bpe import BytePairTokenizer
from tinymm.data.characters import CharacterTokenizer
from tinymm.data.corpus import Corpus, load_corpus
from tinymm.data.dates import date_pairs
from tinymm.data.digits import Digits, DigitSet, load_digits
from tinymm.data.easy_vqa import EasyVQA, QuestionSet, load_easy_vqa
from tinymm.data.emoji import Emoji, load_emoji
from tinymm.data.facts import fact_pairs
from tinymm.data.images import ImageSource, load_image
from tinymm.data.number_words import number_pairs
from tinymm.data.scenes import COLORS, HELD_OUT_PAIRS, PAIRS, SHAPES, TRAINING_PAIRS
from tinymm.data.scenes import Scene, SceneList, SceneSet, Shape
from tinymm.data.scenes import compose_scenes, draw_scene, draw_scenes, make_scenes, sample_scene
from tinymm.data.sentiment import SentenceSet, Sentiment, load_sentiment
from tinymm.data.shipped import data_path
from tinymm.data.text_pairs import TextPairs
from tinymm.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from tinymm.data.topics import Topics, TopicSet, load_topics

__all__ = [
    "COLORS", "HELD_OUT_PAIRS", "IGNORE", "PAIRS", "SHAPES", "SPECIAL_TOKENS", "TRAINING_PAIRS", "Batch",
    "BatchSettings", "DigitSet", "Digits", "EasyVQA", "ImageSource", "QuestionSet", "Scene", "SceneList", "SceneSet", "SentenceSet", "Sentiment", "Shape",
    "Tokenizer", "TrainingBatches", "compose_scenes", "data_path", "draw_scene", "draw_scenes", "load_digits", "load_easy_vqa",
    "load_image", "load_sentiment", "make_batch", "make_scenes", "sample_scene",
    "BytePairTokenizer", "Corpus", "load_corpus",
    "CharacterTokenizer", "TextPairs", "Emoji", "Topics", "TopicSet", "date_pairs", "fact_pairs", "load_emoji", "load_topics", "number_pairs",
]
