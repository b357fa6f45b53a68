"""Run folders: atomic writes, loading, and one clear sentence for everything that can be wrong with them."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny_task
from safetensors.numpy import load_file, save_file

import tinymm
from tinymm import UserError
from tinymm.training import checkpoints
from tinymm.training.checkpoints import RunFolder, load_run, write_atomically


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with weights (untrained: a checkpoint does not know)."""
    task = tiny_task.make_task()
    run = tiny_task.make_run(tmp_path_factory.mktemp("runs") / "run", task)
    run.save_weights(task.model.state())
    return run, task


@pytest.fixture
def damaged(finished, tmp_path):
    """A copy to damage."""
    shutil.copytree(finished[0].path, tmp_path / "copy")
    return RunFolder.open(tmp_path / "copy")


def edit_config(run, **changes):
    config = json.loads((run.path / "config.json").read_text()) | changes
    (run.path / "config.json").write_text(json.dumps(config))


def test_a_loaded_model_is_the_saved_one_and_writes_the_same(finished):
    run, task = finished
    model = tinymm.load(run.path)
    for name, array in task.model.state().items():
        np.testing.assert_array_equal(model.state()[name], array)
    assert model.config == task.model.config and model.tokenizer.tokens == task.model.tokenizer.tokens
    image = task.tests.seen.images[0]
    assert model.answer(image, "is the spot red ?") == task.model.answer(image, "is the spot red ?")
    assert model.caption(image) == task.model.caption(image)


def test_the_weights_are_plain_safetensors_under_dotted_names(finished):
    run, task = finished
    arrays = load_file(run.weights)
    assert arrays.keys() == task.model.state().keys()
    assert {"words.weight", "encoder.blocks.0.norm.running_mean"} <= arrays.keys()
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def broken(*_):
        raise OSError("disk full")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
            patch.setattr(checkpoints.os, name, broken)
            write_atomically(path, b"new and longer")
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_half_a_temporary_file_of_a_killed_process_is_harmless(tmp_path):
    (tmp_path / ".file.tmp").write_bytes(b"half of something much longer")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_arrays_that_are_no_plain_memory_are_saved_as_they_look(tmp_path):
    run = RunFolder.create(tmp_path / "run", model="text_image", model_config={}, training={})
    matrix = np.arange(6.0).reshape(2, 3)
    run.save_weights({"turned": matrix.T, "every_other": matrix[:, ::2], "scalar": np.float32(3).reshape(())})
    loaded = run.load_weights()
    np.testing.assert_array_equal(loaded["turned"], matrix.T)
    np.testing.assert_array_equal(loaded["every_other"], matrix[:, ::2])
    assert loaded["scalar"].shape == () and loaded["scalar"] == 3


def test_an_existing_run_is_not_overwritten(finished):
    run, task = finished
    with pytest.raises(UserError, match="already holds a run: continue it with --resume, or choose another folder"):
        tiny_task.make_run(run.path, task)


def test_a_folder_with_other_things_can_become_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    tiny_task.make_run(tmp_path, tiny_task.make_task())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder .*file/run"):
        RunFolder.create(tmp_path / "file" / "run", model="text_image", model_config={}, training={})
    with pytest.raises(UserError, match="cannot write the run folder"):
        RunFolder.create(tmp_path / "file", model="text_image", model_config={}, training={})


def one_sentence(folder):
    with pytest.raises(UserError) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_folder_a_file_and_an_empty_folder(tmp_path):
    assert "there is no such folder" in one_sentence(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "it is a file" in one_sentence(tmp_path / "file")
    assert "it has no config.json" in one_sentence(tmp_path)


def test_no_weights(damaged):
    damaged.weights.unlink()
    assert "has no weights" in one_sentence(damaged.path)
    damaged.training_state.write_bytes(b"")
    assert "has no weights yet: finish its training" in one_sentence(damaged.path)


@pytest.mark.parametrize("size", [0, 5, 8, 300, -1])
def test_truncated_weights(damaged, size):
    content = damaged.weights.read_bytes()
    damaged.weights.write_bytes(content[:size])
    assert "model.safetensors is truncated or damaged" in one_sentence(damaged.path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file, as PyTorch writes", b"\xff" * 100, bytes(64)])
def test_a_file_that_is_no_safetensors(damaged, content):
    damaged.weights.write_bytes(content)
    assert "truncated or damaged" in one_sentence(damaged.path)


def test_a_foreign_checkpoint(damaged):
    arrays = load_file(damaged.weights)
    save_file(arrays | {"lm_head.weight": np.zeros(3, np.float32)}, damaged.weights)
    assert "is a checkpoint of another model" in one_sentence(damaged.path)
    assert "lm_head.weight" in one_sentence(damaged.path)
    save_file(arrays | {"words.weight": np.zeros((3, 3), np.float32)}, damaged.weights)
    assert "words.weight has shape (3, 3)" in one_sentence(damaged.path)
    del arrays["head_bias"]
    save_file(arrays, damaged.weights)
    assert "missing ['head_bias']" in one_sentence(damaged.path)


def test_weights_that_are_not_finite(damaged):
    arrays = load_file(damaged.weights)
    arrays["head_bias"][0] = np.nan
    save_file(arrays, damaged.weights)
    assert "head_bias" in one_sentence(damaged.path) and "not finite" in one_sentence(damaged.path)


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"format": 1', "[" * 100_000])
def test_a_config_that_is_no_json(damaged, text):
    (damaged.path / "config.json").write_text(text)
    assert "config.json is damaged: it is no valid JSON" in one_sentence(damaged.path)


def test_a_config_of_something_else(damaged):
    (damaged.path / "config.json").write_text("[1, 2]")
    assert "has format None" in one_sentence(damaged.path)
    (damaged.path / "config.json").write_text('{"format": 1}')
    assert "no section 'model_config'" in one_sentence(damaged.path)


@pytest.mark.parametrize("changes, sentence", [
    ({"format": 2}, "has format 2, but this version of tinymm reads format 1"),
    ({"model": "image_text"}, "a model of kind 'image_text'"),
    ({"model": ["text_image"]}, "a model of kind"),
    ({"model_config": {"vocabulary_size": 12, "depth": 3}}, "does not describe a text_image model of this version"),
    ({"model_config": {}}, "does not describe a text_image model"),
    ({"model_config": {"vocabulary_size": "many"}}, "does not describe a text_image model"),
    ({"model_config": {"vocabulary_size": 12, "d_model": 7}}, "does not describe a text_image model"),
    ({"model_config": {"vocabulary_size": 12, "fusion": "nuclear"}}, "does not describe a text_image model"),
    ({"model_config": {"vocabulary_size": 12, "d_model": 10**12}}, "does not describe a text_image model"),
])
def test_a_config_that_does_not_fit(damaged, changes, sentence):
    edit_config(damaged, **changes)
    assert sentence in one_sentence(damaged.path)


def test_a_tokenizer_that_is_missing_damaged_or_of_another_run(damaged):
    damaged.tokenizer.write_text("{")
    assert "tokenizer" in one_sentence(damaged.path)
    tinymm.data.tokenizer.Tokenizer(["red"]).save(damaged.tokenizer)
    assert "it belongs to another run" in one_sentence(damaged.path)
    damaged.tokenizer.unlink()
    assert "has no tokenizer.json" in one_sentence(damaged.path)
