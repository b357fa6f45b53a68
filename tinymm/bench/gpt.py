"""`tinymm bench gpt RUN`: how fast a trained GPT writes, and what PyTorch reaches with the same training.

Writing is timed with kept keys and values, and without. Then PyTorch trains the recipe of the run: the same initial weights,
the same batches in the same order, the same schedule, but its own gradients, optimizer and dropout. Both are measured on
the same windows of the validation text. This takes as long as the training did.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from tinymm.bench.machine import set_threads
from tinymm.errors import UserError
from tinymm.memory import keep_freed_memory
from tinymm.models.gpt import GPTModel
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.gpt import GPTTask, Recipe, guess_next_tokens, prepare

REPEATS = 5     # texts written in each way; the median counts


def writing_speed(model: GPTModel, keep: bool) -> float:
    """Tokens a second, in texts as long as the model can see at once."""
    next_logits = model.next_logits() if keep else model.next_logits_anew()
    seconds, length = [], model.config.max_length
    for _ in range(REPEATS):
        ids, begun = [model.tokenizer.end_id], time.perf_counter()
        for _ in range(length):
            ids.append(int(next_logits([ids], None).argmax()))
        seconds.append(time.perf_counter() - begun)
    return length / float(np.median(seconds))


def train_twin(task: GPTTask) -> tuple[float, float]:
    """Train the twin as the recipe says; returns its validation loss, and the seconds of the training."""
    from tinymm.bench.gpt_twin import TorchTraining

    twin, begun = TorchTraining(task), time.perf_counter()
    for step in tqdm(range(task.recipe.training.steps), unit="step", dynamic_ncols=True, mininterval=5):
        twin.step(step)
    return twin.validation_loss(), time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tinymm bench gpt", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", metavar="RUN", help="the run folder of a finished `tinymm train gpt`")
    parser.add_argument("--threads", type=int, default=1, help="threads for the kernels and for PyTorch (default: 1)")
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    run = RunFolder.open(options.run)
    if run.config["model"] != "gpt":
        raise UserError(f"{run.path} holds a training of {run.config['model']}, not of gpt")
    keep_freed_memory()
    model = load_run(run.path, backend="numba")
    task = prepare(Recipe.of_run(run), model.tokenizer)

    set_threads(options.threads)
    for backend in ("numpy", "numba"):
        kept, anew = (writing_speed(model.use_backend(backend), keep) for keep in (True, False))
        print(f"writes {model.config.max_length} tokens with {backend}: {kept:.0f} tokens/s, "
              f"without kept keys and values {anew:.0f} tokens/s: {kept / anew:.1f} times as fast")
    ours, _ = guess_next_tokens(lambda ids: model.forward(ids)[0], task.validation_windows())
    try:
        import torch    # noqa: F401
    except ImportError:
        print('PyTorch is not installed, so there is nothing to compare with (pip install "tinymm[peer]" brings it)')
        return 0
    set_threads(options.threads)
    theirs, seconds = train_twin(task)
    print(f"validation loss, nats a token: tinymm {ours:.4f}, PyTorch {theirs:.4f}: tinymm / PyTorch {ours / theirs:.4f}")
    print(f"PyTorch trained {task.recipe.training.steps:,} steps in {seconds:.0f} s with {options.threads} thread(s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
