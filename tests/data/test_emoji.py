"""The emoji sheets, and other versions of a drawing."""

import numpy as np
import pytest
from PIL import Image

from tinymm import UserError
from tinymm.data import emoji as module
from tinymm.data import load_emoji
from tinymm.data.emoji import TEST_ARTIST, TRAINING_ARTISTS, VALIDATION_ARTIST, cut_sheet
from tinymm.data.image_augmentation import Augmentation, augment, crop_to_drawing


@pytest.fixture(scope="module")
def emoji():
    return load_emoji()


def test_all_drawings_are_there(emoji):
    assert len(emoji) == 1586 and len(set(emoji.names)) == 1586
    assert {a: int(p.sum()) for a, p in emoji.present.items()} == {
        "noto": 1586, "noto_v1": 1176, "twemoji": 1586, "emojione": 1060, "fluent": 1586}
    drawings, which = emoji.of(TRAINING_ARTISTS)
    assert drawings.shape == (5408, 32, 32, 3) and drawings.dtype == np.uint8 and which.max() == 1585
    assert TEST_ARTIST not in TRAINING_ARTISTS and VALIDATION_ARTIST in TRAINING_ARTISTS


def test_a_name_belongs_to_its_drawing(emoji):
    heart = emoji.names.index("red heart")
    for artist in emoji.drawings:
        if emoji.present[artist][heart]:
            ink = emoji.drawings[artist][heart].reshape(-1, 3)
            ink = ink[(ink < 250).any(axis=1)].mean(axis=0)
            assert ink[0] > ink[1] + 50 and ink[0] > ink[2] + 50


def test_present_means_that_something_is_drawn(emoji):
    for artist, drawings in emoji.drawings.items():
        has_ink = (drawings < 250).any(axis=(1, 2, 3))
        assert has_ink[emoji.present[artist]].all() and not has_ink[~emoji.present[artist]].any()


def test_a_sheet_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="holds 48 drawings, but there are 49"):
        cut_sheet(np.zeros((32, 48 * 32, 3), np.uint8), 49)


def test_a_damaged_file_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "data_path", lambda name: tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_emoji()


def test_without_changes_the_drawing_is_the_same(emoji, rng):
    images = emoji.drawings["noto"][:5]
    nothing = Augmentation(*[0.0] * 7)
    out = augment(images, rng, nothing)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, images, atol=0.01)


def test_changed_drawings_stay_in_range_and_differ_each_time(emoji, rng):
    images = emoji.drawings["noto"][[7, 7, 400, 400]]
    out = augment(images, rng)
    assert out.shape == images.shape and out.dtype == np.float32 and out.min() >= 0 and out.max() <= 255
    assert np.abs(out[0] - out[1]).mean() > 3 and np.abs(out[2] - out[3]).mean() > 3
    np.testing.assert_array_equal(augment(images, np.random.default_rng(3)), augment(images, np.random.default_rng(3)))


def test_white_stays_white(rng):
    np.testing.assert_allclose(augment(np.full((2, 8, 8, 3), 255, np.uint8), rng), 255, atol=0.01)


def test_a_shift_moves_the_drawing(rng):
    image = np.full((1, 9, 9, 3), 255, np.uint8)
    image[0, 4, 4] = 0
    moved = {tuple(np.argwhere(augment(image, rng, Augmentation(0, 0, 0, 3, 0, 0, 0))[0, :, :, 0] < 200)[0].tolist()) for _ in range(40)}
    rows, columns = zip(*moved)
    assert min(rows) <= 2 and max(rows) >= 6 and min(columns) <= 2 and max(columns) >= 6


def test_cropping_fits_the_drawing_and_keeps_its_proportions():
    image = np.full((40, 60, 3), 255, np.uint8)
    image[10:20, 5:45] = 30                                   # 10 high, 40 wide
    out = crop_to_drawing(image, 32)
    rows, columns = np.nonzero((out < 128).all(axis=-1))
    assert out.shape == (32, 32, 3)
    assert (columns.min(), columns.max()) == (1, 29) and 6 <= np.ptp(rows) + 1 <= 9
    assert (crop_to_drawing(np.full((9, 9, 3), 255, np.uint8), 16) == 255).all()
    assert isinstance(Image.fromarray(out), Image.Image)
