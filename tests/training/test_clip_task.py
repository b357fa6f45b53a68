"""The training of CLIP: batches, one step, evaluation, baselines."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm.data.emoji import TRAINING_ARTISTS, VALIDATION_ARTIST
from tinymm.models import CLIPConfig
from tinymm.training import clip
from tinymm.training.nearest_drawing import COLORS, nearest_drawings, outline_features, pixel_features


@pytest.fixture(scope="module")
def task():
    recipe = clip.Recipe(model=CLIPConfig(vocabulary_size=0, channels=(4, 6), strides=(2, 4), d_model=8, d_hidden=10), emoji=12, backend="numpy",
                         data="validation")
    return clip.prepare(recipe)


def test_a_batch_is_a_function_of_the_step_and_has_no_emoji_twice(task):
    batch, again, other = task.batch(3), task.batch(3), task.batch(4)
    np.testing.assert_array_equal(batch.drawings, again.drawings)
    assert batch.drawings.shape == (24, 32, 32, 3) and batch.drawings.dtype == np.float32 and batch.ids.shape == (12, task.ids.shape[1])
    assert len(np.unique(batch.ids, axis=0)) == 12
    assert not np.array_equal(batch.ids, other.ids)


def test_the_artist_left_out_is_not_trained_on(task):
    assert task.recipe.artists == tuple(a for a in TRAINING_ARTISTS if a != VALIDATION_ARTIST)
    assert task.pairs.drawings.shape[:2] == (1586, 3)
    assert clip.Recipe().artists == TRAINING_ARTISTS


def test_the_two_drawings_are_by_different_artists_who_drew_it(task):
    plain = clip.CLIPTask(task.model, replace(task.recipe, mixtures=0.0, augmentation=replace(
        task.recipe.augmentation, rotation=0, scale=0, shear=0, shift=0, saturation=0, channel_mix=0, gamma=0)), task.emoji, task.ids)
    batch = plain.batch(0)
    for i in range(12):
        row = int(np.flatnonzero((task.ids == batch.ids[i]).all(axis=1))[0])
        found = [[artist for artist in range(3) if task.pairs.present[row, artist]
                  and np.abs(task.pairs.drawings[row, artist] - batch.drawings[half * 12 + i]).max() < 0.1] for half in (0, 1)]
        assert found[0] and found[1] and found[0] != found[1]


def test_a_step_adds_the_gradient_of_its_loss(task):
    """The whole loss of three contrasts, by finite differences in one parameter of each tower and the temperature."""
    model, rng = task.model.astype(np.float64), np.random.default_rng(0)
    small = clip.CLIPBatch(rng.uniform(0, 255, (6, 32, 32, 3)), task.ids[:3])
    model.zero_grad()
    task.step(small, rng)
    gradients = {name: parameter.grad.copy() for name, parameter in model.named_parameters()}
    for name in ("image_head.bias", "narrow.weight", "log_scale"):
        parameter, right = dict(model.named_parameters())[name], gradients[name].flat[0]
        value = parameter.value
        losses = []
        for change in (1e-5, -1e-5):
            parameter.value = value.copy()
            parameter.value.flat[0] += change
            losses.append(task.step(small, rng)["loss"])
        parameter.value = value
        assert abs((losses[0] - losses[1]) / 2e-5 - right) < 1e-6 * max(1, abs(right)), name
    model.astype(np.float32)


def test_evaluation_names_what_it_is(task):
    assert set(task.evaluate(30)) == {"validation_image_to_text_r1", "validation_text_to_image_r1"}
    assert set(task.evaluate(30)) <= set(clip.FIGURES)


def test_baselines_find_the_nearest(rng):
    drawings = rng.integers(256, size=(5, 32, 32, 3), dtype=np.uint8)
    which = np.array([2, 0, 1, 1, 3])
    for features in (pixel_features, outline_features):
        nearest = nearest_drawings(features(drawings), features(drawings), which, 4)
        assert nearest.shape == (5, 4) and nearest.argmax(axis=1).tolist() == which.tolist()


def test_outlines_forgive_brightness_and_colours_do_not():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 8:20, 10:25] = 120
    a, b, turned = outline_features(image), outline_features(image + 60), outline_features(image.swapaxes(1, 2))
    slopes = 15 * 15 * 4 * 6
    assert a.shape == (1, slopes + 16 * 16 * 3)
    assert np.abs(a - b)[:, :slopes].max() < 1e-3 < np.abs(a - turned)[:, :slopes].max()
    np.testing.assert_allclose((a - b)[:, slopes:], COLORS * 60 / 255, atol=1e-6)
