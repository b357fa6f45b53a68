"""The pictures of the main job: of its training, and of its evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinymm.data.images import ImageSource
from tinymm.plots.attention import Look, draw_attention, mean_look
from tinymm.plots.curves import draw_curves
from tinymm.plots.examples import draw_examples
from tinymm.training.checkpoints import RunFolder
from tinymm.training.metrics import Example

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel
    from tinymm.training.text_image import Evaluation, TestSets

TITLES = {
    "questions": "Test questions of easy-VQA",
    "matching_seen": "Does the text match the scene? Pairs of colour and shape seen in training",
    "matching_unseen": "Does the text match the scene? With a pair never seen together",
    "captions_seen": "Captions of test scenes: pairs of colour and shape seen in training",
    "captions_unseen": "Captions of test scenes: with a pair never seen together",
}
SHEETS = {"questions": ("questions",), "matching": ("matching_seen", "matching_unseen"), "captions": ("captions_seen", "captions_unseen")}
ATTENTION = "Where the model looked for each word"


def look(model: "TextImageModel", image: ImageSource, question: str | None = None) -> Look:
    """Let the model answer the question (or caption the image), and keep where it looked."""
    found = model.look(image, question)
    return mean_look(found.attention[0], found.image, found.asked)


def draw_run(run: RunFolder, model: "TextImageModel", tests: "TestSets", count: int = 18) -> list[Path]:
    """The pictures of a training: curves, answers and captions on test images, and where the model looked."""
    from tinymm.training import text_image

    examples = {}
    for part, questions in tests.asked.items():
        questions = text_image.spread_questions(questions, count)
        images = [questions.images[i] for i in questions.image_index]
        answers = text_image.answer_questions(model, questions)
        examples[part] = list(map(Example, images, questions.questions, answers, questions.answers))
    for part, scenes in tests.captioned.items():
        scenes = text_image.spread_scenes(scenes, 2 * count // 3)
        captions = text_image.caption_scenes(model, scenes)
        examples[part] = list(map(Example, scenes.images, [""] * len(scenes), captions, scenes.captions))
    looks = []
    for part in tests.asked:
        kinds = {text_image.kind_of_answer(example.expected): example for example in reversed(examples[part])}
        looks += [look(model, example.image, example.question) for example in kinds.values()]
    if tests.unseen is not None:
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
        wanted = min(len(examples), 2 * count // 3 if part.startswith("captions") else count)
        shown[part] = [examples[i * len(examples) // wanted] for i in range(wanted)]
    pictures = _draw_sheets(run, shown)
    mistakes = {}
    for part, wrong in result.errors.items():
        if wrong:
            total = sum(round((1 - share) * count) for share, count in result.by_kind[part].values())
            mistakes[f"Mistakes. {TITLES[part]}: the first {len(wrong[:12])} of {total:,}"] = wrong[:12]
    if mistakes:
        pictures.append(draw_examples(mistakes, run.pictures / "mistakes.png", count_right=False))
    else:
        (run.pictures / "mistakes.png").unlink(missing_ok=True)     # of an earlier evaluation
    return pictures


def _draw_sheets(run: RunFolder, examples: Mapping[str, Sequence[Example]]) -> list[Path]:
    """questions.png, matching.png and captions.png, as far as there are such."""
    sheets = {name: {TITLES[part]: examples[part] for part in parts if part in examples} for name, parts in SHEETS.items()}
    return [draw_examples(sheet, run.pictures / f"{name}.png") for name, sheet in sheets.items() if sheet]
