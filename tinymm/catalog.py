"""The systems that tinymm trains: for each its place in the code, and one line on what it is and what it learns from.

Nothing is imported here, so that the command line can list them at once. `tinymm.training.jobs` says what a system's
training module must offer; `tinymm.training.checkpoints` builds its model from a run folder.
"""

from typing import NamedTuple


class System(NamedTuple):
    """A model, and the job that trains it, which is `tinymm.training.NAME` for the system called NAME."""

    module: str               # where its model stands
    config: str               # the class of its sizes
    model: str                # its class, built as model(config, rng)
    summary: str              # what it is
    data: str                 # what it learns from
    choices: tuple[str, ...] = ()    # what `--data` may be; the first is the default


SYSTEMS: dict[str, System] = {
    "text_image": System(
        "tinymm.models.text_image", "TextImageConfig", "TextImageModel",
        "answers questions about an image and describes images, in one model", "easy-VQA, drawn scenes",
        ("both", "all", "questions", "captions", "matching")),
    "lstm": System(
        "tinymm.models.lstm", "LSTMConfig", "LSTMModel",
        "reads a sentence word by word and tells whether it is positive", "review sentences rated by people"),
    "bert": System(
        "tinymm.models.bert", "BERTConfig", "BERTModel",
        "guesses hidden words from both sides, and so learns to read", "review sentences without labels"),
    "bert_classifier": System(
        "tinymm.models.bert_classifier", "BERTClassifierConfig", "BERTClassifier",
        "tells whether a review is positive, or what it is about; with --from it starts from a trained bert",
        "sentences of film and product reviews", ("sentiment", "topic")),
    "gpt": System(
        "tinymm.models.gpt", "GPTConfig", "GPTModel",
        "writes: guesses the next token again and again", "Alice's Adventures in Wonderland, quatrains of the Tang dynasty",
        ("alice", "tang")),
    "encoder_decoder": System(
        "tinymm.models.encoder_decoder", "EncoderDecoderConfig", "EncoderDecoderModel",
        "reads one text and writes another: translates, rewrites, sums up", "numbers in words, dates, facts about scenes",
        ("numbers", "dates", "facts")),
    "multimodal_bert": System(
        "tinymm.models.multimodal_bert", "MultimodalBERTConfig", "MultimodalBERT",
        "names the answer to a question about an image: BERT with cross-attention to a residual CNN, and a classifier", "easy-VQA"),
    "image_qa": System(
        "tinymm.models.image_qa", "ImageQAConfig", "ImageQA",
        "finds the answer to a question about an image in the question's own words: start and end of the span",
        "two-way questions about easy-VQA's images and drawn scenes"),
    "emoji_caption": System(
        "tinymm.models.text_image", "TextImageConfig", "TextImageModel",
        "names a drawing word by word: the text-image model on emoji", "emoji by four artists, tested on a fifth", ("all", "validation")),
    "clip": System(
        "tinymm.models.clip", "CLIPConfig", "CLIPModel",
        "finds the name of a drawing and the drawing of a name: two towers, one space", "emoji by four artists, tested on a fifth",
        ("all", "validation")),
}
