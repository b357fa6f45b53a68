"""The pictures of the main job: of its training, and of its evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinymm.data.images import ImageSource, load_image
from tinymm.plots.attention import Look, draw_attention
from tinymm.plots.curves import draw_curves
from tinymm.plots.examples import draw_examples
from tinymm.training.checkpoints import RunFolder
from tinymm.training.metrics import Example

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel
    from tinymm.training.text_image import Evaluation, TestSets

QUESTIONS = "Test questions of easy-VQA"
CAPTIONS = {
    "captions_seen": "Captions of test scenes: pairs of colour and shape seen in training",
    "captions_unseen": "Captions of test scenes: with a pair never seen together",
}
MISTAKES = {
    "questions": "Mistakes, test questions",
    "captions_seen": "Mistakes, captions with pairs of colour and shape seen in training",
    "captions_unseen": "Mistakes, captions with a pair never seen together",
}
ATTENTION = "Where the model looked for each word"


def look(model: "TextImageModel", image: ImageSource, question: str | None = None) -> Look:
    """Let the model answer the question (or caption the image), and keep where it looked."""
    words, attention = model.attention_to_image(image, question)
    return Look(load_image(image, model.config.image_size), question or "caption", words, attention)


def draw_run(run: RunFolder, model: "TextImageModel", tests: "TestSets", count: int = 18) -> list[Path]:
    """The pictures of a training: curves, answers and captions on test images, and where the model looked."""
    from tinymm.training import text_image

    questions = text_image.spread_questions(tests.questions, count)
    images = [questions.images[i] for i in questions.image_index]
    answers = text_image.answer_questions(model, questions)
    examples = {"questions": list(map(Example, images, questions.questions, answers, questions.answers))}
    for part, scenes in (("captions_seen", tests.seen), ("captions_unseen", tests.unseen)):
        scenes = text_image.spread_scenes(scenes, 2 * count // 3)
        captions = text_image.caption_scenes(model, scenes)
        examples[part] = list(map(Example, scenes.images, [""] * len(scenes), captions, scenes.captions))
    of_each_kind = {text_image.kind_of_answer(example.expected): example for example in reversed(examples["questions"])}
    looks = [look(model, example.image, example.question) for example in of_each_kind.values()]
    shortest, *_, longest = sorted(examples["captions_unseen"], key=lambda example: len(example.expected))
    looks += [look(model, shortest.image), look(model, longest.image)]
    return [
        draw_curves(run.metrics, run.pictures / "curves.png"),
        *_draw_sheets(run, examples),
        draw_attention(looks, run.pictures / "attention.png", ATTENTION),
    ]


def draw_evaluation(run: RunFolder, result: "Evaluation", count: int = 18) -> list[Path]:
    """The pictures of `tinymm evaluate`: a sample of everything, and the first mistakes, if there are any."""
    shown = {}
    for part, examples in result.examples.items():
        wanted = min(len(examples), count if part == "questions" else 2 * count // 3)
        shown[part] = [examples[i * len(examples) // wanted] for i in range(wanted)]
    pictures = _draw_sheets(run, shown)
    mistakes = {}
    for part, wrong in result.errors.items():
        if wrong:
            total = sum(round((1 - share) * count) for share, count in result.by_kind[part].values())
            mistakes[f"{MISTAKES[part]}: the first {len(wrong[:12])} of {total:,}"] = wrong[:12]
    if mistakes:
        pictures.append(draw_examples(mistakes, run.pictures / "mistakes.png", count_right=False))
    else:
        (run.pictures / "mistakes.png").unlink(missing_ok=True)     # of an earlier evaluation
    return pictures


def _draw_sheets(run: RunFolder, examples: Mapping[str, Sequence[Example]]) -> list[Path]:
    """questions.png and captions.png."""
    captions = {title: examples[part] for part, title in CAPTIONS.items() if part in examples}
    return [
        draw_examples({QUESTIONS: examples.get("questions", [])}, run.pictures / "questions.png"),
        draw_examples(captions, run.pictures / "captions.png"),
    ]
