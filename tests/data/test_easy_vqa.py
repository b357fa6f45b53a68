import gzip
import shutil

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import HELD_OUT_PAIRS, data_path, load_easy_vqa
from tinymm.data import shipped
from tinymm.data.tokenizer import split_words


@pytest.fixture(scope="module")
def easy_vqa():
    return load_easy_vqa()


def test_the_split_is_the_official_one_and_complete(easy_vqa):
    assert easy_vqa.train.images.shape == (4000, 64, 64, 3) and easy_vqa.train.images.dtype == np.uint8
    assert easy_vqa.test.images.shape == (1000, 64, 64, 3) and easy_vqa.test.images.dtype == np.uint8
    assert (len(easy_vqa.train), len(easy_vqa.test)) == (38_575, 9_673)
    assert len(easy_vqa.answers) == 13


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_question_has_an_image_and_a_listed_answer(easy_vqa, part):
    questions = getattr(easy_vqa, part)
    assert len(questions.questions) == len(questions.answers) == len(questions.image_index)
    assert set(questions.image_index.tolist()) == set(range(len(questions.images)))
    assert set(questions.answers) <= set(easy_vqa.answers)
    assert np.all(np.diff(questions.image_index) >= 0)


def test_known_lines(easy_vqa):
    train, test = easy_vqa.train, easy_vqa.test
    assert (train.image_index[0], train.questions[0], train.answers[0]) == (0, "what is the blue shape?", "rectangle")
    assert (test.image_index[3], test.questions[3], test.answers[3]) == (0, "does the image contain a circle?", "no")
    assert np.any((train.images[0] == (0, 0, 255)).all(axis=-1))   # the blue rectangle is there


def test_no_test_image_is_a_training_image(easy_vqa):
    training = {image.tobytes() for image in easy_vqa.train.images}
    assert not any(image.tobytes() in training for image in easy_vqa.test.images)


def test_the_pairs_held_out_from_the_scenes_are_not_in_easy_vqa_either(easy_vqa):
    words = set(split_words(" ".join(set(easy_vqa.train.questions)))) | set(easy_vqa.answers)
    assert not any(color in words and shape in words for color, shape in HELD_OUT_PAIRS)


def test_a_missing_file_is_one_sentence(tmp_path):
    shutil.copy(data_path("easy_vqa") / "answers.txt", tmp_path)
    with pytest.raises(UserError, match=r"easy-VQA is incomplete: .*images\.npz is missing"):
        load_easy_vqa(tmp_path)


@pytest.fixture
def small_copy(tmp_path):
    (tmp_path / "answers.txt").write_text("yes\nno\n")
    np.savez(tmp_path / "images.npz", train=np.zeros((2, 8, 8, 3), np.uint8), test=np.zeros((1, 8, 8, 3), np.uint8))
    for part in ("train", "test"):
        write_questions(tmp_path, part, "image\tquestion\tanswer\n0\tis it?\tyes\n")
    return tmp_path


def write_questions(folder, part, text):
    with gzip.open(folder / f"{part}_questions.tsv.gz", "wt", encoding="utf-8") as file:
        file.write(text)


def test_another_folder(small_copy):
    loaded = load_easy_vqa(small_copy)
    assert loaded.train.questions == ("is it?",) and loaded.train.images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize(("text", "message"), [
    ("image\tquestion\tanswer\n2\tis it?\tyes\n", "outside 0..1"),
    ("image\tquestion\tanswer\n0\tis it?\tperhaps\n", "answers.txt does not list"),
    ("image\tquestion\n0\tis it?\n", "must have the columns"),
    ("", "must have the columns"),
])
def test_questions_that_do_not_fit(small_copy, text, message):
    write_questions(small_copy, "train", text)
    with pytest.raises(UserError, match=message):
        load_easy_vqa(small_copy)


@pytest.mark.parametrize("name", ["images.npz", "train_questions.tsv.gz"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_damaged_files(small_copy, name, keep):
    content = (small_copy / name).read_bytes()
    (small_copy / name).write_bytes(content[:int(len(content) * keep)])
    with pytest.raises(UserError, match="cannot be read|incomplete"):
        load_easy_vqa(small_copy)


def test_data_path_finds_the_source_tree():
    assert (data_path("easy_vqa") / "images.npz").is_file()


def test_data_path_falls_back_on_the_installed_copy(tmp_path, monkeypatch):
    (tmp_path / "installed_data" / "easy_vqa").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shipped, "SOURCE_TREE", tmp_path / "nowhere")
    monkeypatch.setattr(shipped, "INSTALLED_AS", "installed_data")
    assert data_path("easy_vqa").resolve() == (tmp_path / "installed_data" / "easy_vqa").resolve()
    with pytest.raises(UserError, match="'sound' is neither in"):
        data_path("sound")


def test_data_path_says_so_when_nothing_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SOURCE_TREE", tmp_path)
    monkeypatch.setattr(shipped, "INSTALLED_AS", "a_package_that_is_not_there")
    with pytest.raises(UserError, match="neither in .* nor installed"):
        data_path("easy_vqa")
