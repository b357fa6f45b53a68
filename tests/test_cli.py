"""The command line as a user meets it: what it prints, what it leaves behind, and one sentence for every mistake."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import tinymm
from tinymm import cli
from tinymm.commands import options, train, use
from tinymm.plots import sheet as plot_sheet
from tinymm.plots import text_image as plots
from tinymm.data import BatchSettings, easy_vqa
from tinymm.models.text_image import TextImageConfig
from tinymm.training import jobs, text_image
from tinymm.training.loop import TrainingSettings

QUESTION = "what color is the shape?"
TINY = text_image.Recipe(
    training=TrainingSettings(steps=3, log_every=1, evaluate_every=2, checkpoint_every=1),
    batch=BatchSettings(question_images=3, questions_per_image=2, scenes=2),
    model=TextImageConfig(vocabulary_size=0, channels=(2, 2, 2, 4), d_model=8, n_heads=2, n_layers=1, d_ff=8,
                          max_length=18),
    training_scenes=60, backend="numpy",
)


@pytest.fixture(scope="module")
def tiny():
    """Within these tests `tinymm train` means a training of three steps, and test sets are small."""
    full = easy_vqa.load_easy_vqa()
    parts = {"train": text_image.spread_questions(full.train, 60), "test": text_image.spread_questions(full.test, 40)}
    small = replace(full, **parts)
    tests = text_image.load_test_sets(scenes=12, easy_vqa=small)
    with pytest.MonkeyPatch.context() as patch:
        for module in (easy_vqa, text_image):
            patch.setattr(module, "load_easy_vqa", lambda: small)
        patch.setattr(text_image, "load_test_sets", lambda *arguments, **options: tests)
        patch.setattr(plot_sheet, "DPI", 50)
        patch.setattr(text_image.Recipe, "quick", classmethod(lambda cls: TINY))
        yield


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A run folder that `tinymm train` made. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert cli.main(["train", "--quick", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "shape.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def refuses(capsys):
    """Run the command line; it must say one sentence on stderr, nothing on stdout, and return 2."""
    def check(*arguments, code=2):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("tinymm: ") and err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
        return err[len("tinymm: "):-1]
    return check


def tinymm_process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(tinymm.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-m", "tinymm", *map(str, arguments)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# ---------------------------------------------------------------------------------------------------- what works


def test_train_leaves_a_run_folder(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert files == {"config.json", "tokenizer.json", "model.safetensors", "training_state.safetensors", "metrics.csv",
                     "pictures/curves.png", "pictures/questions.png", "pictures/captions.png", "pictures/attention.png"}
    for picture in (trained / "pictures").iterdir():
        with Image.open(picture) as drawn:
            assert min(drawn.size) > 100


def test_train_says_what_came_out_and_what_to_do_next(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--quick", "--steps", "1", "--seed", "5", "--fusion", "concatenate"]
    assert cli.main(["train", *options, "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "trained 1 steps in 0 min" in out
    assert "easy-VQA, official test questions, exact answer" in out
    assert "scene captions, exact: pairs never seen together" in out
    assert str(folder / "pictures" / "attention.png") in out
    assert out.endswith(f"next: tinymm evaluate {folder}\n")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_config"]["fusion"] == "concatenate"
    assert config["training"]["training"]["seed"] == 5 and config["training"]["training"]["steps"] == 1
    (folder / "pictures" / "curves.png").unlink()
    assert cli.main(["train", "--resume", "--out", str(folder)]) == 0      # already finished: only draws again
    assert (folder / "pictures" / "curves.png").exists()
    assert f"going on with the training in {folder}" in capsys.readouterr().out


def test_evaluate_prints_and_writes_the_figures(run, capsys, monkeypatch):
    titles = []
    draw = plots.draw_examples
    spy = lambda sections, *rest, **options: titles.extend(sections) or draw(sections, *rest, **options)   # noqa: E731
    monkeypatch.setattr(plots, "draw_examples", spy)
    assert cli.main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    for words in ("easy-VQA, official test questions, exact answer", "the same with the image blanked",
                  "the commonest training answer", "pairs seen in training", "pairs never seen together", "yes or no",
                  " of 40", " of 12"):
        assert words in out
    figures = json.loads((run / "evaluation.json").read_text())["figures"]
    assert f"{figures['majority_exact']:.2%}" in out
    wrong = round(40 * (1 - figures["questions_exact"]))                  # three steps do not make it faultless
    assert f"Mistakes. Test questions of easy-VQA: the first 12 of {wrong}" in titles
    assert (run / "pictures" / "mistakes.png").exists()


def test_ask_and_caption_print_the_text_alone(trained, image, tmp_path, capsys):
    model = tinymm.load(trained)
    picture = tmp_path / "new" / "looked.png"
    assert cli.main(["ask", image, QUESTION, "--run", str(trained), "--picture", str(picture)]) == 0
    assert capsys.readouterr().out == model.answer(image, QUESTION) + "\n"
    assert Image.open(picture).format == "PNG"
    picture.unlink()
    assert cli.main(["caption", image, "--run", str(trained), "--picture", str(picture)]) == 0
    assert capsys.readouterr().out == model.caption(image) + "\n"
    assert Image.open(picture).format == "PNG"


@pytest.mark.parametrize("mode, name", [
    ("1", "a.png"), ("L", "a.gif"), ("P", "a.png"), ("RGBA", "a.webp"), ("LA", "a.png"), ("CMYK", "a.jpg"),
    ("I;16", "a.png"), ("F", "a.tiff"), ("YCbCr", "a.jpg"), ("RGB", "no suffix"),
])
def test_ask_about_an_image_of_any_mode(trained, tmp_path, mode, name, capsys):
    path = tmp_path / name
    gradient = Image.linear_gradient("L").resize((37, 21)).convert(mode)
    gradient.save(path, format=None if "." in name else "BMP")
    assert cli.main(["ask", str(path), QUESTION, "--run", str(trained)]) == 0


def test_default_run_folder(trained, image, tmp_path, monkeypatch, refuses, capsys):
    monkeypatch.chdir(tmp_path)
    assert refuses("caption", image) == f"there is no run folder {options.DEFAULT_RUN}; `tinymm train` makes it"
    shutil.copytree(trained, tmp_path / options.DEFAULT_RUN)
    assert cli.main(["caption", image]) == 0


def test_compare_puts_runs_side_by_side(trained, run, tmp_path, refuses, capsys):
    picture = tmp_path / "compare.png"
    capsys.readouterr()
    assert cli.main(["compare", str(trained), str(run), "--picture", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "parameters", "steps"] and len({len(line) for line in lines[:3]}) == 1
    assert [line.split()[0] for line in lines[1:3]] == ["trained", "run"] and lines[1].split()[2] == str(TINY.training.steps)
    assert picture.stat().st_size > 5000
    assert "different names" in refuses("compare", run, run)
    assert "no run folder" in refuses("compare", run, tmp_path / "nothing")


def test_bench_hands_its_options_on(capsys):
    assert cli.main(["bench", "--help"]) == 0
    assert "tinymm bench attention" in capsys.readouterr().out
    assert cli.main(["bench"]) == 2
    assert "tinymm bench attention" in capsys.readouterr().err


def test_gradcheck_prints_the_table(capsys):
    assert cli.main(["gradcheck", "softmax", "linear"]) == 0
    out = capsys.readouterr().out
    assert "softmax" in out and "linear" in out and "all pass" in out


def test_gradcheck_of_a_wrong_backward_returns_1(monkeypatch, capsys):
    from tinymm import functional
    right = functional.tanh_backward
    monkeypatch.setattr(functional, "tanh_backward", lambda d_out, cache: 1.001 * right(d_out, cache))
    assert cli.main(["gradcheck", "tanh"]) == 1
    assert "FAILED: tanh" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["ask"], ["caption"], ["gradcheck"]])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: tinymm") and len(out) > 500 and max(map(len, out.splitlines())) <= 120


def test_without_a_command_it_helps(capsys):
    assert cli.main([]) == 0
    assert "a first session:" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"tinymm {tinymm.__version__}\n"


def test_choices_are_those_of_the_model():
    from tinymm.models.text_image import FUSIONS

    assert train.FUSIONS == FUSIONS


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("arguments, part", [
    (["fly"], "invalid choice: 'fly'"),
    (["ask"], "the following arguments are required: IMAGE, QUESTION"),
    (["train", "resnet"], "invalid choice: 'resnet'"),
    (["train", "--steps", "0"], "argument --steps: it must be a whole number of at least 1, got '0'"),
    (["train", "--steps", "-5"], "argument --steps: it must be a whole number of at least 1, got '-5'"),
    (["train", "--steps", "many"], "argument --steps: it must be a whole number of at least 1, got 'many'"),
    (["train", "--seed", "-1"], "argument --seed: it must be a whole number of at least 0, got '-1'"),
    (["train", "--fusion", "early"], "invalid choice: 'early'"),
    (["train", "--backend", "cuda"], "invalid choice: 'cuda'"),
    (["train", "--speed"], "unrecognized arguments: --speed"),
    (["train", "--resume", "--quick", "--steps", "5"], "--resume goes on with the settings of runs"),
    (["caption", "a.png", "--picture", "a.bmp"], "it must be the name of a .png file, got 'a.bmp'"),
    (["gradcheck", "atention"], "there is no pair, layer or model called 'atention'; did you mean attention?"),
    (["gradcheck", "zzz"], "there is no pair, layer or model called 'zzz'; there are: "),
])
def test_wrong_options(arguments, part, refuses, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert part in refuses(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_train_does_not_touch_an_existing_run(trained, refuses):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert "already holds a run" in refuses("train", "--out", trained)
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


def test_resume_without_a_run(tmp_path, refuses):
    missing = tmp_path / "nowhere"
    sentence = f"there is no run folder {missing}; `tinymm train --out {missing}` makes it"
    assert refuses("train", "--resume", "--out", missing) == sentence


def test_run_folder_that_cannot_be_made(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["train", "--quick", "--out", str(tmp_path / "file" / "run")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "cannot write the run folder" in err


@pytest.mark.parametrize("command", [
    ["evaluate", "RUN"], ["ask", "IMAGE", QUESTION, "--run", "RUN"], ["caption", "IMAGE", "--run", "RUN"],
])
@pytest.mark.parametrize("damage, part", [
    (lambda run: shutil.rmtree(run), "there is no run folder"),
    (lambda run: [path.unlink() for path in run.rglob("*") if path.is_file()], "it has no config.json"),
    (lambda run: (run / "config.json").write_text('{"format": 1,'), "it is no valid JSON"),
    (lambda run: (run / "config.json").write_text('{"format": 99}'), "has format 99"),
    (lambda run: (run / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (lambda run: (run / "tokenizer.json").write_text('["red"]'), "tokenizer.json"),
    (lambda run: [path.unlink() for path in run.glob("*.safetensors")], "has no weights"),
    (lambda run: os.truncate(run / "model.safetensors", 1000), "is truncated or damaged"),
    (lambda run: os.truncate(run / "model.safetensors", 0), "is truncated or damaged"),
    (lambda run: (run / "model.safetensors").write_bytes(b"PK\x03\x04 of others" * 9), "is truncated or damaged"),
    (lambda run: shutil.copy(run / "training_state.safetensors", run / "model.safetensors"), "of another model"),
])
def test_damaged_run_folders(command, damage, part, run, image, refuses):
    damage(run)
    assert part in refuses(*[{"RUN": run, "IMAGE": image}.get(word, word) for word in command])


def bomb(path):
    """A PNG of a few bytes whose header claims 40,000 x 40,000 pixels."""
    Image.new("1", (1, 1)).save(path)
    data = path.read_bytes()
    header = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + data[24:29]
    path.write_bytes(data[:12] + header + PngImagePlugin._crc32(header).to_bytes(4, "big") + data[33:])


@pytest.mark.parametrize("make, part", [
    (lambda path: None, "does not exist"),
    (lambda path: path.mkdir(), "is a folder"),
    (lambda path: path.write_bytes(b""), "is not a picture"),
    (lambda path: path.write_text("no picture at all"), "is not a picture"),
    (bomb, "million pixels"),
    (lambda path: (Image.effect_noise((90, 90), 50).save(path), os.truncate(path, 3000)), "damaged"),
])
def test_images_that_cannot_be_used(make, part, trained, tmp_path, refuses):
    path = tmp_path / "image.png"
    make(path)
    for command in (["ask", path, QUESTION], ["caption", path]):
        sentence = refuses(*command, "--run", trained)
        assert part in sentence and str(path) in sentence


@pytest.mark.parametrize("question, part", [
    ("", "the question is empty"),
    (" \n\t ", "the question is empty"),
    ("?!", "the question is empty"),
    ("what color is the elephant?", "the model does not know the word 'elephant'; it knows: a, above, "),
    ("Is the Zebra \x1b[31mHAPPY?", "the model does not know the words 'zebra', "),
    ("what color is " + "the " * 90 + "shape?", "shorten it"),
])
def test_questions_that_cannot_be_asked(question, part, trained, image, refuses):
    assert part in refuses("ask", image, question, "--run", trained)


def test_picture_that_cannot_be_written(trained, image, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    assert cli.main(["caption", image, "--run", str(trained), "--picture", str(tmp_path / "folder.png")]) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_ctrl_c(monkeypatch, refuses, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt("stopped at step 7 of 9; go on with `tinymm train --resume`")
    monkeypatch.setattr(jobs, "train_run", stop)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "tinymm: stopped at step 7 of 9; go on with `tinymm train --resume`\n"


def test_no_memory(monkeypatch, trained, image, refuses):
    def fail(folder):
        raise MemoryError
    monkeypatch.setattr(use, "load", fail)
    assert refuses("caption", image) == "there is not enough memory for this"


# ---------------------------------------------------------------------------------------------------- as a process


def test_a_mistake_as_a_process(tmp_path):
    process = tinymm_process("ask", tmp_path / "none.png", QUESTION, "--run", tmp_path / "none")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    folder = tmp_path / "none"
    assert err == f"tinymm: there is no run folder {folder}; `tinymm train --out {folder}` makes it\n"


@pytest.mark.parametrize("folder, command", [("runs/clip", "tinymm train clip"), ("runs/gpt_tang", "tinymm train gpt --data tang"),
                                             ("runs/emoji_caption", "tinymm train emoji_caption")])
def test_a_missing_folder_of_the_usual_name_tells_which_training_makes_it(folder, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tinymm.UserError, match=f"`{command}` makes it"):
        options.find_run(Path(folder))


def test_broken_pipe():
    process = tinymm_process("gradcheck", "tanh")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 141 and err == ""
    process.stderr.close()
