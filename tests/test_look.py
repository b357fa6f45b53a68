"""`tinymm look`: the maps are those of the forward pass, the pixel gradient is the true one, and every mistake has its sentence."""

from dataclasses import asdict

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tinymm import UserError, cli
from tinymm.data.characters import CharacterTokenizer
from tinymm.data.tokenizer import Tokenizer
from tinymm.functional import log_softmax_forward, span_cross_entropy_forward
from tinymm.functional.span import best_span
from tinymm.models import (
    BERTClassifier, BERTClassifierConfig, BERTConfig, BERTModel, EncoderDecoderConfig, EncoderDecoderModel, GPTConfig, GPTModel, ImageQA,
    ImageQAConfig, LSTMConfig, LSTMModel, MultimodalBERT, MultimodalBERTConfig, TextImageConfig, TextImageModel,
)
from tinymm.models.bert import CLS, MASK
from tinymm.models.image_qa import may_answer
from tinymm.models.looking import AttentionMaps, Inspection, PixelGradient, log_probability
from tinymm.plots import looking as plots
from tinymm.plots import sheet
from tinymm.training.checkpoints import RunFolder

TEXTS = ["what color is the shape ?", "red blue", "a film of wit and grace"]
QUESTION = "what color is the shape?"
FUSIONS = pytest.mark.parametrize("fusion", ["concatenate", "cross", "joint"])


def text_image(fusion="joint", dtype=np.float64):
    """A model that writes two words and stops when it is full; without training every weight is as good as another."""
    tokenizer, rng = Tokenizer.build(TEXTS), np.random.default_rng(0)
    config = TextImageConfig(len(tokenizer), image_size=8, channels=(3, 5), strides=(2, 2), d_model=6, n_heads=3, n_layers=2, d_ff=7,
                             max_length=10, fusion=fusion)
    model = TextImageModel(config, rng).astype(dtype)
    for parameter in model.parameters():
        parameter.value += (0.3 * rng.normal(size=parameter.shape)).astype(dtype)
    model.head_bias.value[:8] -= 50     # special tokens: none ends the answer, so it goes on to max_length
    model.tokenizer = tokenizer
    return model


def text_model(kind, config, dtype=np.float64, **sizes):
    tokenizer = Tokenizer.build(TEXTS, extra=(CLS, MASK))
    model = kind(config(len(tokenizer), **sizes), np.random.default_rng(0)).astype(dtype)
    model.tokenizer = tokenizer
    return model


def bert(dtype=np.float64):
    return text_model(BERTModel, BERTConfig, dtype, d_model=6, n_heads=2, n_layers=2, d_ff=7, max_length=9)


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, to look into; coarse, as nobody sees them."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(sheet, "DPI", 50)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *rest, **options: saved.append(figure) or save(figure, *rest, **options))
    return saved


# ---- the gradient down to the pixels --------------------------------------------------------------------------------


@FUSIONS
def test_pixel_gradient_is_the_slope_of_ln_p(image, fusion):
    """Finite differences of each word's ln p by the brightness of pixels, in all three colours."""
    model = text_image(fusion)
    found = model.look(image, QUESTION)
    written = [model.tokenizer.id(pixel.word) for pixel in found.pixels]
    assert len(written) == 2

    def log_p(brightness):
        return model.pixel_gradients(model.image_input(255 * brightness[None]), model.question_prompt(QUESTION), written)[0]

    brightness, step = image / 255, 1e-6
    np.testing.assert_allclose(np.exp(log_p(brightness)), [pixel.probability for pixel in found.pixels], rtol=1e-12)
    gradients = np.stack([pixel.gradient for pixel in found.pixels])                                  # (n, H, W, 3)
    largest = np.abs(gradients).max(axis=(1, 2, 3))
    for place in np.random.default_rng(2).integers([8, 8, 3], size=(12, 3)).tolist():
        change = np.zeros_like(brightness)
        change[tuple(place)] = step
        slope = (log_p(brightness + change) - log_p(brightness - change)) / (2 * step)                # (n,)
        np.testing.assert_array_less(np.abs(slope - gradients[:, *place]), 1e-6 * largest)
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_the_probability_of_a_sure_answer_keeps_its_gradient():
    """With p = 1 - 2e-13 float32 would round the gradient to 0."""
    logits = np.array([[30, 0, 0.5], [0, 1, 2]], np.float32)
    log_p, d_logits = log_probability(logits, np.array([0, 1]))
    others = np.exp([-30.0, -29.5])
    np.testing.assert_allclose(d_logits[0], [others.sum(), *-others], rtol=2e-3)      # 1 - p in float64
    np.testing.assert_allclose(log_p[1], 1 - np.log(1 + np.e + np.e**2), rtol=1e-12)
    assert d_logits.dtype == np.float32


# ---- the maps -------------------------------------------------------------------------------------------------------


@FUSIONS
def test_maps_of_the_text_image_model(image, fusion):
    model = text_image(fusion)
    found = model.look(image, QUESTION)
    at_image, at_words = found.attention
    words = [model.tokenizer.tokens[token] for token in model.generate_ids(image[None], [model.question_prompt(QUESTION)], np.zeros(1, int))[0]]
    assert list(at_image.rows) == words and found.answer == model.answer(image, QUESTION) == " ".join(words)
    total = at_image.weights.sum(axis=-1)
    assert (total > 0).all() and (total <= 1 + 1e-12).all() and (fusion != "cross" or np.allclose(total, 1, rtol=1e-12))
    assert at_image.weights.shape == (2, 3, 2, 4) and at_image.grid == (2, 2)
    np.testing.assert_allclose(at_words.weights.sum(axis=-1), 1, rtol=1e-12)
    read = ["<question>", "what", "color", "is", "the", "shape", "?", "<answer>", words[0]]
    assert list(at_words.columns) == (read if fusion == "cross" else ["(image)", *read])
    assert list(at_words.rows) == [*read[:7], f"<answer> → {words[0]}", f"{words[0]} → {words[1]}"]
    weights = at_words.weights[..., -9:]
    assert (np.triu(weights[0, 0], 1) == 0).all() and (np.diagonal(weights, axis1=-2, axis2=-1) > 0).all()
    if fusion != "cross":      # the two words of the answer look at the image as much as the other picture says
        np.testing.assert_allclose(at_words.weights[:, :, -2:, 0], at_image.weights.sum(axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(found.image, image)


def test_without_a_question_the_caption_is_looked_at(image):
    model = text_image()
    found = model.look(image)
    assert found.asked == "caption" and found.answer == model.caption(image)
    assert found.attention[1].rows[0] == f"<caption> → {found.attention[0].rows[0]}"


def test_nothing_written_leaves_no_pictures_of_the_image(image, figures, tmp_path):
    model = text_image()
    model.head_bias.value[model.tokenizer.end_id] += 1000
    found = model.look(image)
    assert found.answer == "" and found.pixels == []
    assert [path.name for path in plots.draw_inspection(found, tmp_path)] == ["words.png"]


def test_maps_of_bert():
    model = bert()
    found = model.look(f"a {MASK} of wit")
    (maps,) = found.attention
    assert list(maps.rows) == list(maps.columns) == [CLS, "a", MASK, "of", "wit"] and maps.weights.shape == (2, 2, 5, 5)
    np.testing.assert_array_equal(maps.weights, model.attention(f"a {MASK} of wit")[1])
    ((word, probability),) = model.predict_masked(f"a {MASK} of wit", 1)[0]
    assert found.answer == f"{word} ({probability:.0%})" and bert().look("a film").answer == ""


def test_maps_of_the_classifier():
    model = text_model(BERTClassifier, BERTClassifierConfig, d_model=6, n_heads=3, n_layers=1, d_ff=7, max_length=9)
    found = model.look("wit and grace")
    assert found.answer == f"positive: {model.predict('wit and grace'):.0%}" and found.attention[0].weights.shape == (1, 3, 4, 4)


def test_maps_of_the_encoder_decoder():
    model = text_model(EncoderDecoderModel, EncoderDecoderConfig, d_model=6, n_heads=3, d_ff=7, encoder_layers=1, decoder_layers=2,
                       source_length=7, target_length=4)
    found = model.look("a film of wit")
    alignment, source, target = found.attention
    read, written, weights = model.alignment("a film of wit")
    assert list(alignment.rows) == written and list(alignment.columns) == read == list(source.rows) == list(source.columns)
    np.testing.assert_array_equal(alignment.weights, weights)
    assert source.weights.shape == (1, 3, 4, 4) and list(target.rows) == written and list(target.columns) == ["<end>", *written[:-1]]
    for maps in found.attention:
        np.testing.assert_allclose(maps.weights.sum(axis=-1), 1, rtol=1e-12)
    assert (np.triu(target.weights[1, 2], 1) == 0).all() and found.answer == model.translate("a film of wit")


@pytest.mark.parametrize("kind, config, answers", [(MultimodalBERT, MultimodalBERTConfig, {"answers": ("red", "blue", "no")}), (ImageQA, ImageQAConfig, {})])
def test_maps_and_pixels_of_the_models_that_read_a_question_and_an_image(image, kind, config, answers):
    model = text_model(kind, config, d_model=6, n_heads=3, n_layers=2, d_ff=7, max_length=9, image_size=8, channels=(3, 5), strides=(2, 2), **answers)
    found = model.look(image, QUESTION)
    at_image, at_words = found.attention
    assert found.answer == model.answer(image, QUESTION) and list(at_image.rows) == [CLS, *TEXTS[0].split()] == list(at_words.columns)
    assert at_image.weights.shape == (2, 3, 7, 4) and at_image.grid == (2, 2) and at_words.weights.shape == (2, 3, 7, 7)
    np.testing.assert_allclose(at_image.weights.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(found.image, image)
    assert not any(parameter.grad.any() for parameter in model.parameters())

    ids = np.array([[model.tokenizer.id(CLS), *model.tokenizer.encode(QUESTION)]])

    def log_p(brightness):      # of the answer that is given to the image as it is
        logits, _ = model.forward(2 * brightness[None] - 1, ids)
        if kind is MultimodalBERT:
            return log_softmax_forward(logits)[0][0, model.config.answers.index(found.answer)]
        spans = best_span(model.forward(model.encoder.image_input(image[None]), ids)[0], may_answer(ids))
        return -2 * span_cross_entropy_forward(logits, spans, may_answer(ids))[0]

    brightness, step, (pixel,) = image / 255, 1e-6, found.pixels
    assert pixel.word == found.answer and pixel.probability == pytest.approx(np.exp(log_p(brightness)), rel=1e-12)
    for place in np.random.default_rng(2).integers([8, 8, 3], size=(12, 3)).tolist():
        change = np.zeros_like(brightness)
        change[tuple(place)] = step
        slope = (log_p(brightness + change) - log_p(brightness - change)) / (2 * step)
        assert abs(slope - pixel.gradient[tuple(place)]) < 1e-6 * np.abs(pixel.gradient).max()


def test_maps_of_gpt():
    tokenizer = CharacterTokenizer.build(["a film of wit"])
    model = GPTModel(GPTConfig(len(tokenizer), d_model=6, n_heads=3, n_layers=2, d_ff=7, max_length=9), np.random.default_rng(0)).astype(np.float64)
    model.tokenizer = tokenizer
    found = model.look("a film")
    (maps,) = found.attention
    assert list(maps.rows) == list(maps.columns) == ["<end>", *"a film"] and maps.weights.shape == (2, 3, 7, 7)
    np.testing.assert_allclose(np.tril(maps.weights).sum(axis=-1), 1, rtol=1e-12)      # nobody looks ahead
    assert found.answer == model.generate("a film", max_new_tokens=1)
    with pytest.raises(UserError, match="13 tokens, but the model sees at most 8"):
        model.look("a film of wit")


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(L, H, 1, 2\), got \(1, 1, 2, 1\)"):
        AttentionMaps("a", "A", np.zeros((1, 1, 2, 1)), ["x"], ["y", "z"])
    with pytest.raises(ValueError, match=r"\(L, H, 1, 6\)"):
        AttentionMaps("a", "A", np.zeros((1, 1, 1, 4)), ["x"], grid=(2, 3))


# ---- the pictures ---------------------------------------------------------------------------------------------------


def boxes(figure):
    """Where texts and images stand, in pixels."""
    return [text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()], \
           [image.get_window_extent() for axes in figure.axes for image in axes.images]


@pytest.mark.parametrize("layers, heads, words", [(2, 4, 1), (1, 3, 9), (2, 7, 2)])
def test_nothing_overlaps_in_the_pictures(tmp_path, figures, image, layers, heads, words):
    rng = np.random.default_rng(3)
    rows = ["rectangle", "a", "red", "left"][:words] + ["of"] * max(0, words - 4)
    weights = rng.dirichlet(np.ones(12), (layers, heads, words))
    found = Inspection("is there a very large rectangle in the image?", " ".join(rows), (
        AttentionMaps("image", "Where the model looked for each word", 0.7 * weights, rows, grid=(3, 4)),
        AttentionMaps("words", "Which words each word looks at", weights, rows, [f"word{i}" for i in range(12)]),
    ), image, [PixelGradient(row, 1 - 0.1**i, rng.normal(size=(8, 8, 3))) for i, row in enumerate(rows, 1)])
    drawn = plots.draw_inspection(found, tmp_path / "new")
    assert [path.name for path in drawn] == ["image.png", "image_heads.png", "words.png", "pixels.png"]
    for path, figure in zip(drawn, figures, strict=True):
        with Image.open(path) as picture:
            width, height = picture.size
        texts, images = boxes(figure)
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1 for box in texts + images), path.name
        apart = texts if path.name == "image.png" else texts + images      # in image.png a share stands inside the image
        for i, a in enumerate(apart):
            for b in apart[:i]:
                assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1.5 and b.y0 < a.y1 - 1.5), path.name
    assert len(boxes(figures[1])[1]) == layers * heads * words
    assert len(boxes(figures[3])[1]) == (3 if words == 1 else 2 * (words + 1) + -(-(words + 1) // 7))
    assert "70%" in {text.get_text() for text in figures[1].axes[0].texts}


def test_pixels_are_coloured_by_their_gradient(tmp_path, figures):
    """A red pixel on black ground that raises ln p is blue, one that lowers it red, the ground white; its size is bright."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[1, 1] = image[2, 2] = (255, 0, 0)
    gradient = np.zeros((4, 4, 3))
    gradient[1, 1, 0], gradient[2, 2, 0], gradient[0, 3, 2] = 0.5, -0.25, 0.5
    plots.draw_pixels(image, [PixelGradient("red", 0.5, gradient)], "?", tmp_path / "pixels.png")
    _, size, part = (np.asarray(shown.get_array()).astype(int) for shown in figures[0].axes[0].images)
    assert size[1, 1].sum() == size[0, 3].sum() > size[2, 2].sum() > size[0, 0].sum()
    assert part[1, 1, 2] > part[1, 1, 0] + 50 and part[2, 2, 0] > part[2, 2, 2] + 50 and part[0, 3].min() > 240


# ---- the command ----------------------------------------------------------------------------------------------------


def run_of(model, name, folder):
    run = RunFolder.create(folder, model=name, model_config=asdict(model.config), training={}, tokenizer=model.tokenizer)
    run.save_weights(model.state())
    return folder


@pytest.fixture
def refuses(capsys):
    def check(*arguments):
        assert cli.main(["look", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("tinymm: ") and err.count("\n") == 1
        return err[len("tinymm: "):-1]
    return check


def test_look_draws_into_the_run(tmp_path, image, figures, capsys):
    model = text_image(dtype=np.float32)
    run, file = run_of(model, "text_image", tmp_path / "run"), tmp_path / "shape.png"
    Image.fromarray(image).save(file)
    assert cli.main(["look", str(run), str(file), QUESTION]) == 0
    names = ["image.png", "image_heads.png", "words.png", "pixels.png"]
    expected = [model.answer(image, QUESTION), *(f"picture   {run / 'look' / name}" for name in names)]
    assert capsys.readouterr().out.splitlines() == expected
    assert all((run / "look" / name).stat().st_size > 1000 for name in names)
    reader, there = run_of(bert(np.float32), "bert", tmp_path / "bert"), tmp_path / "there"
    assert cli.main(["look", str(reader), "a film", "--out", str(there)]) == 0
    assert [path.name for path in there.iterdir()] == ["words.png"] and not (reader / "look").exists()


def test_mistakes(tmp_path, image, refuses):
    run, file = run_of(text_image(dtype=np.float32), "text_image", tmp_path / "run"), tmp_path / "shape.png"
    Image.fromarray(image).save(file)
    assert refuses(run) == "this model reads IMAGE [QUESTION], but 0 inputs were given; put a text in quotes"
    assert "but 3 inputs were given" in refuses(run, file, "what", "color")
    assert refuses(run, tmp_path / "none.png") == f"the image {tmp_path / 'none.png'} does not exist"
    assert "has never seen the word 'elephant'" in refuses(run, file, "what color is the elephant?")
    assert "no run folder" in refuses(tmp_path / "nowhere", file)
    assert list((tmp_path / "run").glob("look")) == []
    reader = run_of(bert(np.float32), "bert", tmp_path / "bert")
    assert refuses(reader) == "this model reads TEXT, but 0 inputs were given; put a text in quotes"
    assert "empty" in refuses(reader, " ")
    blind = text_model(LSTMModel, LSTMConfig, np.float32, d_embedding=3, d_state=4)
    assert "does not attend" in refuses(run_of(blind, "lstm", tmp_path / "lstm"), "a film")
