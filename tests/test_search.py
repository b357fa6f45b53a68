"""`tinymm search`, with a model that has learnt nothing."""

import numpy as np
import pytest
from PIL import Image

from tinymm.cli import main
from tinymm.commands.search import images_in, split_arguments
from tinymm.data import Tokenizer, load_emoji
from tinymm.errors import UserError
from tinymm.models import CLIPConfig, CLIPModel


@pytest.fixture
def found(monkeypatch, rng):
    tokenizer = Tokenizer.build(load_emoji().names)
    model = CLIPModel(CLIPConfig(len(tokenizer), channels=(4, 6), strides=(2, 4), d_model=8, d_hidden=10), rng)
    model.tokenizer = tokenizer
    monkeypatch.setattr("tinymm.commands.search.load", lambda folder: model)
    return model


@pytest.fixture
def folder(tmp_path):
    emoji = load_emoji()
    inner = tmp_path / "icons" / "more"
    inner.mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "more/c.PNG")):
        Image.fromarray(emoji.drawings["noto"][100 * i]).resize((50, 40)).save(tmp_path / "icons" / name)
    (tmp_path / "icons" / "notes.txt").write_text("no image")
    return tmp_path / "icons"


def test_a_folder_is_ranked_by_words_and_drawn(found, folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes(b"no image")
    assert main(["search", str(folder), "red heart", "--picture", str(tmp_path / "out.png")]) == 0
    out = capsys.readouterr()
    lines = out.out.splitlines()
    scores = [float(line.split()[0]) for line in lines[:3]]
    assert len(lines) == 4 and scores == sorted(scores, reverse=True) and {line.split("/")[-1] for line in lines[:3]} == {"a.png", "b.png", "c.PNG"}
    assert "left out" in out.err and "broken.png" in out.err
    assert Image.open(tmp_path / "out.png").width > 300
    a = found.embed_image(folder / "a.png") @ found.embed_text("red heart")
    line = next(line for line in lines if line.endswith("a.png"))
    assert abs(float(line.split()[0]) - a) < 0.02          # read once more at another size


def test_an_image_finds_names(found, folder, tmp_path, capsys):
    assert main(["search", str(folder / "a.png"), "--top", "5", "--picture", str(tmp_path / "out.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(any(name in line for name in load_emoji().names) for line in lines[:5])


def test_words_alone_search_the_unseen_artist(found, tmp_path, capsys):
    assert main(["search", "red heart", "--top", "3", "--picture", str(tmp_path / "out.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("arguments, sentence", [
    (["missing.png"], "the image missing.png does not exist"),
    (["missing_folder", "red heart"], "missing_folder is neither an image nor a folder"),
    (["  "], "the words are empty"),
    (["{}"], "what is to be found in these images?"),
    (["qqqq"], "the model knows none of the words of 'qqqq'"),
])
def test_mistakes_are_one_sentence(found, folder, capsys, arguments, sentence):
    assert main(["search", *[argument.format(folder) for argument in arguments]]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_run_of_another_model_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("tinymm.commands.search.load", lambda folder: object())
    assert main(["search", "red heart", "--run", "runs/lstm"]) == 2
    assert "runs/lstm holds no clip model" in capsys.readouterr().err


def test_paths_and_words_are_told_apart(folder, tmp_path):
    assert split_arguments([str(folder), "red"]) == ([folder], "red")
    assert split_arguments([str(folder / "a.png")]) == ([folder / "a.png"], "")
    assert [file.name for file in images_in([folder])] == ["a.png", "b.png", "c.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in the folder"):
        images_in([tmp_path / "empty"])
