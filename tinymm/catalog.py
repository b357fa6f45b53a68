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
        "answers questions about an image and describes images, in one model", "easy-VQA, drawn scenes"),
    "lstm": System(
        "tinymm.models.lstm", "LSTMConfig", "LSTMModel",
        "reads a sentence word by word and tells whether it is positive", "review sentences rated by people"),
    "bert": System(
        "tinymm.models.bert", "BERTConfig", "BERTModel",
        "guesses hidden words from both sides, and so learns to read", "review sentences without labels"),
    "bert_classifier": System(
        "tinymm.models.bert_classifier", "BERTClassifierConfig", "BERTClassifier",
        "tells whether a review is positive; with --from it starts from a trained bert", "review sentences rated by people"),
    "encoder_decoder": System(
        "tinymm.models.encoder_decoder", "EncoderDecoderConfig", "EncoderDecoderModel",
        "reads one text and writes another: translates, rewrites, sums up", "numbers in words, dates, facts about scenes",
        ("numbers", "dates", "facts")),
}
