"""The text-image model that names emoji: batches, one step, what is written and how it is scored."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from tinymm.data.batches import IGNORE
from tinymm.data.emoji import TEST_ARTIST, TRAINING_ARTISTS, VALIDATION_ARTIST
from tinymm.data.image_augmentation import crop_to_drawing
from tinymm.models import TextImageConfig
from tinymm.training import emoji_caption
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.optimizers import AdamW


@pytest.fixture(scope="module")
def task():
    model = replace(emoji_caption.Recipe.model, channels=(4, 6), strides=(4, 4), d_model=8, n_heads=2, n_layers=1, d_ff=10, directions=2)
    return emoji_caption.prepare(emoji_caption.Recipe(model=model, drawings=6, backend="numpy", data="validation"))


def test_the_longest_name_fits_the_model(task):
    assert max(map(len, task.names)) <= emoji_caption.Recipe().model.max_length
    assert isinstance(emoji_caption.Recipe().model, TextImageConfig)


def test_a_batch_asks_for_the_names_of_its_drawings(task):
    batch, again = task.batch(3), task.batch(3)
    np.testing.assert_array_equal(batch.images, again.images)
    np.testing.assert_array_equal(batch.ids, again.ids)
    tokenizer = task.model.tokenizer
    assert batch.images.shape == (6, 32, 32, 3) and (batch.ids[:, 0] == tokenizer.caption_id).all()
    names = {" ".join(emoji_caption.split_words(name)) for name in task.emoji.names}
    said = [" ".join(emoji_caption.split_words(tokenizer.decode(labels[labels != IGNORE]))) for labels in batch.labels]
    assert set(said) <= names and len(set(said)) == 6


def test_some_words_are_hidden_from_the_reader_but_not_from_the_labels(task):
    shown = replace(task.recipe, word_dropout=0.0), replace(task.recipe, word_dropout=0.5)
    (all_words, some_words) = (replace(task, recipe=recipe).batch(0) for recipe in shown)
    hidden = all_words.ids != some_words.ids
    assert 0 < hidden.sum() < (all_words.ids >= len(task.model.tokenizer.special_tokens)).sum()
    assert (some_words.ids[hidden] == task.model.tokenizer.unk_id).all()
    np.testing.assert_array_equal(all_words.labels, some_words.labels)


def test_the_artist_left_out_is_not_trained_on(task):
    assert task.pairs.drawings.shape[1] == 3 and VALIDATION_ARTIST not in task.recipe.artists
    assert set(task.evaluate(8)) == {"validation_exact", "validation_token_f1"} <= set(emoji_caption.FIGURES)
    assert emoji_caption.Recipe().artists == TRAINING_ARTISTS


def test_a_batch_can_be_learned(task):
    optimizer, batch, losses = AdamW(task.model), task.batch(0), []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(task.step(batch, np.random.default_rng(0))["loss"])
        optimizer.step(1e-2)
    assert losses[0] == pytest.approx(np.log(len(task.model.tokenizer)), rel=0.2) and losses[-1] < 0.4 * losses[0]


def test_the_score_does_not_look_at_case():
    assert emoji_caption.score(["red heart", "a cat"], ["Red Heart", "dog"]) == {"exact": 0.5, "token_f1": 0.5}


def test_evaluation_names_the_unseen_artist_and_a_user_image_is_cropped(task, tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", model="emoji_caption", model_config=asdict(task.model.config),
                           training=replace(task.recipe, data="all").settings(), tokenizer=task.model.tokenizer)
    run.save_weights(task.model.state())
    model = load_run(run.path)
    few = replace(task.emoji, present={artist: there & (np.arange(len(there)) < 40) for artist, there in task.emoji.present.items()})
    monkeypatch.setattr(type(task.emoji), "cropped", lambda emoji: few)
    report = emoji_caption.evaluate_run(model, RunFolder.open(run.path))
    assert set(report.figures) == {"exact", "token_f1"} and all(path.stat().st_size > 1000 for path in report.pictures)
    drawing = task.emoji.drawings[TEST_ARTIST][0]
    large = Image.new("RGB", (200, 300), "white")
    large.paste(Image.fromarray(drawing).resize((96, 96)), (20, 150))
    assert isinstance(model.caption(large), str)
    seen, alone = model._load([large])[0].astype(int), crop_to_drawing(np.array(Image.fromarray(drawing).resize((96, 96))), 32)
    assert np.abs(seen - alone).mean() < 5 < np.abs(255 - alone).mean()      # as if there were no white around it
