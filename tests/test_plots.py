"""Pictures: right labels, right colours, and drawn without touching anything global."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image


from tinymm.plots import Look, draw_attention, draw_curves, draw_examples, lit, read_metrics
from tinymm.training.metrics import Example


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, to look into."""
    saved = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *rest, **options: saved.append(figure) or save(figure, *rest, **options))
    return saved


def texts(figure):
    return [text.get_text() for part in (figure, *figure.axes) for text in part.texts if text.get_text()]


def image(seed=0, side=16):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_read_metrics_skips_what_is_no_number(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,question_accuracy,note\n10,2.5,,start\n20,1.5,0.25,\n30,nan,0.5,\n40,0.\n50")
    columns = read_metrics(path)
    np.testing.assert_array_equal(columns["loss"], ([10, 20, 40], [2.5, 1.5, 0]))
    np.testing.assert_array_equal(columns["question_accuracy"], ([20, 30], [0.25, 0.5]))
    assert set(columns) == {"loss", "question_accuracy"}


def test_curves_put_each_column_where_it_belongs(tmp_path, figures):
    path = tmp_path / "metrics.csv"
    rows = [f"{step},{2 / step},{step / 400},{step / 500 if step % 100 == 0 else ''},0.001" for step in range(1, 401)]
    path.write_text("\n".join(["step,loss,accuracy,other_accuracy,learning_rate", *rows]))
    picture = draw_curves(path, tmp_path / "pictures" / "curves.png")
    left, right = figures[0].axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training batch"]
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["training batch", "other accuracy"]
    assert left.get_yscale() == "log"
    np.testing.assert_allclose(right.lines[-1].get_xydata(), [(step, step / 500) for step in (100, 200, 300, 400)])
    with Image.open(picture) as file:
        assert file.format == "PNG" and np.asarray(file.convert("L")).std() > 5


def test_curves_of_a_run_without_any_row(tmp_path, figures):
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds\n")
    draw_curves(path, tmp_path / "curves.png")
    assert texts(figures[0]).count("nothing was logged") == 2


def test_examples_show_question_answer_and_what_was_expected(tmp_path, figures):
    examples = [Example(image(0), "is it $5 or 5 $?", "yes", "yes"), Example(image(1), "what shape?", "circle", "star"),
                Example(image(2), "", "a red circle left of a blue star above a green heart", "a red circle")]
    draw_examples({"Test": examples}, tmp_path / "examples.png")
    (figure,) = figures
    words = " ".join(texts(figure))
    for part in ("is it $5 or 5 $?", "✓ yes", "what shape?", "✗ circle", "expected: star", "✗ a red circle left of",
                 "1 of these 3 right"):
        assert part in words
    assert "expected: yes" not in words
    (axes,) = figure.axes
    edges = [border.get_edgecolor() for border in axes.patches]
    assert edges[0] != edges[1] == edges[2]
    for shown, example in zip(axes.images, examples, strict=True):
        np.testing.assert_array_equal(shown.get_array(), example.image)


def test_texts_stay_inside_the_picture_and_apart(tmp_path, figures):
    question = "is there a picture of a very long question about the color of the little triangle?"
    caption = "a purple rectangle right of an orange triangle and below a yellow rectangle"
    wrong = [Example(image(i), question, caption, caption[:-1]) for i in range(7)]
    draw_examples({"A title": wrong, "Another": wrong[:2]}, tmp_path / "examples.png")
    look = Look(image(), question, caption.split(), np.ones((13, 4, 4)))
    short = Look(image(1), question, ["yes"], np.ones((1, 4, 4)))
    draw_attention([look, short, look], tmp_path / "attention.png", "A title")
    for figure in figures:
        width, height = figure.canvas.get_width_height(physical=True)
        boxes = [text.get_window_extent() for part in (figure, *figure.axes) for text in part.texts if text.get_text()]
        if figure is figures[0]:       # in the other one a share stands inside the image
            boxes += [shown.get_window_extent() for shown in figure.axes[0].images]
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 2 and b.y0 < a.y1 - 2)


def test_light_falls_where_the_attention_is():
    white = np.full((16, 16, 3), 255, np.uint8)
    attention = np.zeros((4, 4))
    attention[1, 2] = 0.7
    light = lit(white, attention).sum(axis=-1)
    assert light.shape == (16, 16)
    assert np.unravel_index(light.argmax(), light.shape) in [(row, column) for row in (5, 6) for column in (9, 10)]
    assert light[15, 0] == light.min() < 0.5 * light.max()
    np.testing.assert_array_equal(lit(white, np.ones((4, 4))), white)       # equal attention lights it all
    assert np.isfinite(lit(white, np.zeros((4, 4)))).all()


def test_attention_frames_the_strongest_token_and_names_its_share(tmp_path, figures):
    attention = np.full((2, 4, 4), 0.02)
    attention[0, 3, 1] = 0.7
    attention[1, 0, 2] = 0.2
    look = Look(image(), "what color?", ["dark", "red"], attention)
    draw_attention([look], tmp_path / "attention.png", "Where it looked")
    (axes,) = figures[0].axes
    panels = [shown.get_extent() for shown in axes.images]                   # left, right, bottom, top
    frames = [patch for patch in axes.patches if patch.get_path_effects()]
    for (left, right, bottom, top), frame, (row, column) in zip(panels[1:], frames, [(3, 1), (0, 2)], strict=True):
        cell = (right - left) / 4
        expected = (left + column * cell, top + row * cell, cell, cell)
        np.testing.assert_allclose(frame.get_bbox().bounds, expected, atol=0.05)
    assert texts(figures[0])[2:] == ["what color?", "70%", "dark", "40%", "red"]


def test_attention_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"attention must be \(words, grid_h, grid_w\) with 2 words, got \(1, 4, 4\)"):
        Look(image(), "", ["a", "b"], np.zeros((1, 4, 4)))


def test_nothing_to_draw_is_no_error(tmp_path):
    draw_examples({"None": []}, tmp_path / "examples.png")
    draw_attention([], tmp_path / "attention.png", "None")
    draw_attention([Look(image(), "caption", [], np.zeros((0, 4, 4)))], tmp_path / "attention.png", "No word")


def test_no_global_state_of_pyplot():
    code = "import sys, tinymm.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
