"""The two trainings on emoji that were killed go on, and end as if nothing had been."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm.training import clip, emoji_caption, jobs
from tinymm.training.loop import TrainingSettings

TRAINING = TrainingSettings(steps=6, warmup=2, evaluate_every=6, evaluation_limit=8, checkpoint_every=3)
SIZES = {"channels": (4, 6), "strides": (2, 4), "directions": 2, "d_model": 8}
CASES = {
    "clip": (clip.CLIPTask, clip.Recipe(training=TRAINING, model=replace(clip.Recipe.model, d_hidden=10, dropout=0.2, **SIZES), emoji=8)),
    "emoji_caption": (emoji_caption.EmojiCaptionTask, emoji_caption.Recipe(
        training=TRAINING, model=replace(emoji_caption.Recipe.model, n_heads=2, n_layers=1, d_ff=9, **SIZES), drawings=8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_killed_training_resumes_with_the_same_numbers(name, tmp_path):
    Task, recipe = CASES[name]
    whole, *_ = jobs.train_run(name, tmp_path / "whole", recipe, progress=False)
    step = Task.step

    def killed(self, batch, rng, count=[0]):
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        return step(self, batch, rng)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "step", killed)
        jobs.train_run(name, tmp_path / "killed", recipe, progress=False)
    resumed, run, summary = jobs.train_run(name, tmp_path / "killed", resume=True, progress=False)
    assert summary.start == 3
    for key, array in whole.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[key], array)
    assert all(path.stat().st_size > 1000 for path in jobs.job(name).draw(run, resumed))
