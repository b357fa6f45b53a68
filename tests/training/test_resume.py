"""Kill a training, resume it, and get the same bits as from an unbroken one."""

import csv
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_task
from safetensors.numpy import load_file

import tinymm
from tinymm.training import checkpoints
from tinymm.training.checkpoints import RunFolder
from tinymm.training.loop import train

SCRIPT = Path(tiny_task.__file__)


def start(run, *words):
    environment = os.environ | {"PYTHONPATH": str(Path(tinymm.__file__).parents[1])}
    command = [sys.executable, SCRIPT, run, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def metrics(run):
    with open(Path(run) / "metrics.csv", newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(one, other):
    for name in ("model.safetensors", "training_state.safetensors", "config.json", "tokenizer.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"
    assert metrics(one) == metrics(other)


@pytest.mark.slow
def test_kill_9_at_random_moments_and_resume_gives_the_same_bits(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    begun = start(unbroken)
    begun.stdout.readline()
    since = time.monotonic()
    finish(begun)
    duration = time.monotonic() - since
    assert load_file(unbroken / "training_state.safetensors")["run.step"] == 60

    rng = np.random.default_rng()    # really random: every run of the tests kills at other moments
    killed_at = []
    words: tuple[str, ...] = ()
    for _ in range(5):
        process = start(broken, *words)
        process.stdout.readline()
        words = ("resume",)
        time.sleep(rng.uniform(0, duration / 4))
        process.kill()
        process.communicate()
        state = broken / "training_state.safetensors"
        killed_at.append(int(load_file(state)["run.step"]) if state.exists() else 0)
    finish(start(broken, *words))
    assert killed_at == sorted(killed_at)
    assert_same_run(unbroken, broken)
    assert not list(broken.glob(".*")), "temporary files were left behind"


class Killed(BaseException):
    """Stands for the end of the process: nothing after it may run, so nothing may clean up."""


@pytest.mark.parametrize("where", ["before the rename", "after the rename"])
def test_death_around_every_single_rename(tmp_path, monkeypatch, where):
    """Die at the n-th rename, for each n, resume, and compare; `unlink` does nothing, as the dead do not tidy up."""
    short = replace(tiny_task.RECIPE, training=replace(tiny_task.RECIPE.training, steps=7, evaluate_every=7))

    def run_once(path, resume):
        task = tiny_task.make_task(short)
        run = RunFolder.open(path) if resume else tiny_task.make_run(path, task)
        train(task, task.recipe.training, run, resume=resume, progress=False)

    run_once(tmp_path / "unbroken", False)
    real, left = os.replace, None

    def dying(source, target):
        nonlocal left
        if left is not None:
            left -= 1
            if left == 0:
                if where == "after the rename":
                    real(source, target)
                raise Killed
        real(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", dying)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    for n in range(1, 100):
        broken, left = tmp_path / f"broken{n}", n
        try:
            run_once(broken, False)
            break
        except Killed:
            left = None
        # Killed while the folder was made: there is no run yet, and it can be begun. Else it can be resumed.
        run_once(broken, (broken / "config.json").exists())
        assert_same_run(tmp_path / "unbroken", broken)
    assert n > 8, f"only {n - 1} renames were tried"


def test_resuming_a_finished_run_changes_nothing_and_mends_lost_weights(tmp_path):
    task = tiny_task.make_task()
    settings = replace(task.recipe.training, steps=4)
    run = tiny_task.make_run(tmp_path / "run", task)
    first = train(task, settings, run, progress=False)
    weights, rows = run.weights.read_bytes(), metrics(run.path)
    run.weights.unlink()
    again = train(tiny_task.make_task(), settings, run, resume=True, progress=False)
    assert run.weights.read_bytes() == weights and metrics(run.path) == rows
    assert (first.start, again.start) == (0, 4) and first.evaluation == again.evaluation


def test_the_kernels_too_resume_to_the_same_bits(tmp_path):
    settings = replace(tiny_task.RECIPE.training, steps=8)
    recipe = replace(tiny_task.RECIPE, training=settings, backend="numba")
    unbroken, broken = (tiny_task.make_run(tmp_path / name, tiny_task.make_task(recipe)) for name in ("a", "b"))
    train(tiny_task.make_task(recipe), settings, unbroken, progress=False)

    task = tiny_task.make_task(recipe)
    batch = task.batch

    def interrupted(step):
        if step == 5:
            raise KeyboardInterrupt
        return batch(step)

    task.batch = interrupted
    with pytest.raises(KeyboardInterrupt):
        train(task, settings, broken, progress=False)
    assert train(tiny_task.make_task(recipe), settings, broken, resume=True, progress=False).start == 3
    assert_same_run(unbroken.path, broken.path)
