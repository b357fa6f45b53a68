"""The loop on a toy task: it learns, it logs, it stops early and says why."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from tinymm import UserError
from tinymm.layers import Linear
from tinymm.layers.module import Module
from tinymm.training.checkpoints import RunFolder
from tinymm.training.loop import TrainingSettings, train
from tinymm.training.nonfinite import NonFiniteError

SETTINGS = TrainingSettings(steps=40, learning_rate=0.05, warmup=4, weight_decay=0.0, log_every=5, evaluate_every=20,
                            evaluation_limit=3, checkpoint_every=10)


class TwoLayers(Module):
    def __init__(self, rng):
        self.first, self.second = Linear(4, 8, rng), Linear(8, 1, rng)

    def forward(self, x):
        hidden, first = self.first.forward(x)
        active, relu = self.ops.relu_forward(hidden)
        out, second = self.second.forward(active)
        return out, {"first": first, "relu": relu, "second": second}

    def backward(self, d_out, cache):
        d_active = self.second.backward(d_out, cache["second"])
        return self.first.backward(self.ops.relu_backward(d_active, cache["relu"]), cache["first"])


class Regression:
    """y = the sum of x, learnt from random x. `spoil` is called at the beginning of each step, to break something."""

    def __init__(self, spoil=lambda task, step, batch: None):
        self.model = TwoLayers(np.random.default_rng(0))
        self.spoil, self.limits, self.now = spoil, [], 0

    def batch(self, step):
        self.now = step
        x = np.random.default_rng([5, step]).standard_normal((16, 4)).astype(np.float32)
        return {"x": x, "y": x.sum(axis=1, keepdims=True)}

    def step(self, batch, rng):
        self.spoil(self, self.now, batch)
        out, cache = self.model.forward(batch["x"])
        difference = out - batch["y"] + 0.01 * rng.standard_normal(out.shape).astype(np.float32)
        self.model.backward(2 * difference / len(difference), cache)
        return {"loss": float((difference**2).mean()), "accuracy": float((np.abs(difference) < 0.3).mean())}

    def trace(self, batch, rng):
        out, cache = self.model.forward(batch["x"])
        return {**cache, "out": out}

    def evaluate(self, limit=None):
        self.limits.append(limit)
        return {"exact": 0.5}


def make_run(path):
    return RunFolder.create(path / "run", model="text_image", model_config={}, training={})


def rows_of(run):
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


def test_the_loss_falls_and_everything_is_logged(tmp_path, capsys):
    task, run = Regression(), make_run(tmp_path)
    summary = train(task, SETTINGS, run, progress=False)
    rows = rows_of(run)
    assert [int(row["step"]) for row in rows] == list(range(5, 41, 5))
    assert float(rows[-1]["loss"]) < 0.2 * float(rows[0]["loss"])
    assert {"step", "seconds", "learning_rate", "gradient_norm", "loss", "accuracy", "exact"} == rows[0].keys()
    assert [row["exact"] for row in rows] == ["", "", "", "0.5", "", "", "", "0.5"]
    assert task.limits == [3, None]      # a quick look on the way, everything at the end
    assert (summary.start, summary.steps, summary.evaluation) == (0, 40, {"exact": 0.5})
    assert run.load_weights().keys() == task.model.state().keys()
    assert capsys.readouterr().err == ""


def test_the_bar_shows_loss_and_accuracy(tmp_path, capsys):
    train(Regression(), replace(SETTINGS, steps=10), make_run(tmp_path))
    err = capsys.readouterr().err
    assert "10/10" in err and "loss=" in err and "accuracy=" in err


def test_every_optimizer_learns(tmp_path):
    for name, rate in (("adamw", 0.05), ("adam", 0.05), ("sgd", 0.02)):
        run = make_run(tmp_path / name)
        train(Regression(), replace(SETTINGS, optimizer=name, learning_rate=rate), run, progress=False)
        assert float(rows_of(run)[-1]["loss"]) < 0.5 * float(rows_of(run)[0]["loss"]), name


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path):
    run = make_run(tmp_path)
    train(Regression(), replace(SETTINGS, steps=10), run, progress=False)
    with pytest.raises(UserError, match="already holds a run"):
        train(Regression(), SETTINGS, run, progress=False)
    with pytest.raises(UserError, match="is of seed 0 and step 10, but this run has seed 1"):
        train(Regression(), replace(SETTINGS, seed=1), run, resume=True, progress=False)
    with pytest.raises(UserError, match="but this run has seed 0 and 5 steps"):
        train(Regression(), replace(SETTINGS, steps=5), run, resume=True, progress=False)
    with pytest.raises(UserError, match="was not written with these settings"):
        train(Regression(), replace(SETTINGS, steps=10, optimizer="sgd"), run, resume=True, progress=False)
    run.save_training_state({"something": np.zeros(3)})
    with pytest.raises(UserError, match="is no training state of tinymm"):
        train(Regression(), SETTINGS, run, resume=True, progress=False)
    run.training_state.write_bytes(b"half")
    with pytest.raises(UserError, match="truncated or damaged"):
        train(Regression(), SETTINGS, run, resume=True, progress=False)


def break_weight(task, step, batch):
    if step == 23:
        task.model.second.weight.value[5, 0] = np.nan


def break_batch(task, step, batch):
    if step == 23:
        batch["x"][3, 1] = np.inf


def break_forward(task, step, batch):
    if step == 23:
        task.model.first.weight.value[...] = 1e30      # finite, but its product with the next is not
        task.model.second.weight.value[...] = 1e30


def break_gradient(task, step, batch):
    if step == 23:
        task.model.first.weight.grad[2, 2] = np.nan


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoil, words", [
    (break_weight, ["the loss is nan", r"the parameter second.weight (NaN at [5, 0], shape (8, 1))"]),
    (break_batch, ["the batch's array x (infinity at [3, 1], shape (16, 4))"]),
    (break_forward, ["in the forward pass out (infinity"]),
    (break_gradient, ["the norm of the gradients is nan", "the gradient of first.weight (NaN at [2, 2]"]),
])
def test_what_is_not_finite_is_named(tmp_path, spoil, words):
    run = make_run(tmp_path)
    with pytest.raises(NonFiniteError) as caught:
        train(Regression(spoil), SETTINGS, run, progress=False)
    text = str(caught.value)
    assert text.startswith("training stopped at step 24: ") and text.endswith("the checkpoint of step 20 is complete")
    assert "\n" not in text and all(word in text for word in words), text
    assert isinstance(caught.value, UserError) and isinstance(caught.value, FloatingPointError)
    assert all(np.isfinite(array).all() for array in run.load_training_state().values())


def test_ctrl_c_says_how_to_go_on_and_leaves_the_last_checkpoint(tmp_path):
    def interrupt(task, step, batch):
        if step == at:
            raise KeyboardInterrupt

    at, run = 13, make_run(tmp_path)
    sentence = "stopped at step 13 of 40; the checkpoint of step 10 is complete: go on with `tinymm train .*--resume`"
    with pytest.raises(KeyboardInterrupt, match=sentence):
        train(Regression(interrupt), SETTINGS, run, progress=False)
    assert not list(run.path.glob(".*"))
    resumed = Regression()
    assert train(resumed, SETTINGS, run, resume=True, progress=False).start == 10
    unbroken = Regression()
    train(unbroken, SETTINGS, make_run(tmp_path / "other"), progress=False)
    for name, array in unbroken.model.state().items():
        np.testing.assert_array_equal(array, resumed.model.state()[name])

    at, run = 3, make_run(tmp_path / "early")
    with pytest.raises(KeyboardInterrupt, match="no checkpoint was written yet"):
        train(Regression(interrupt), SETTINGS, run, progress=False)


def test_checkpoints_between_rows_keep_the_running_means(tmp_path):
    """A checkpoint in the middle of a row's steps: the resumed row must still be the mean over all of them."""
    settings = replace(SETTINGS, steps=12, log_every=6, checkpoint_every=4, evaluate_every=100)
    unbroken, broken = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    train(Regression(), settings, unbroken, progress=False)

    def interrupt(task, step, batch):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Regression(interrupt), settings, broken, progress=False)
    train(Regression(), settings, broken, resume=True, progress=False)
    assert [row | {"seconds": ""} for row in rows_of(broken)] == [row | {"seconds": ""} for row in rows_of(unbroken)]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"log_every": 0}, {"optimizer": "lion"}, {"learning_rate": 0.0},
                                   {"learning_rate": math.nan}, {"seed": -1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingSettings(**{"steps": 10} | wrong)
