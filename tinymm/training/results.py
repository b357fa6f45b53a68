"""What this project's own runs reached: data/results.json, which `tinymm models` shows.

    python -m tinymm.training.results RUN ...      put evaluated runs in, each in place of an older one of its kind

Nothing in the file is typed by hand: parameters, steps, seconds and figures are read from the run folders.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tinymm.data.shipped import SOURCE_TREE, data_path
from tinymm.errors import UserError
from tinymm.plots.curves import read_metrics
from tinymm.training.checkpoints import RunFolder, read_json, write_atomically
from tinymm.training.jobs import Figure, job, parameter_count


def load_results() -> list[dict[str, Any]]:
    """The results that ship: model, data, seed, parameters, steps, seconds, figures (each a sentence and a text)."""
    return json.loads(data_path("results.json").read_text(encoding="utf-8"))


def result_of(run: RunFolder) -> dict[str, Any]:
    """What a run reached.

    Raises:
        UserError: it was not evaluated yet.
    """
    evaluation = read_json(run.evaluation, f"{run.path} was not evaluated; `tinymm evaluate {run.path}` does it")
    name, training = run.config["model"], run.config["training"]
    steps, seconds = read_metrics(run.metrics)["seconds"]
    figures = []
    for key, value in evaluation["figures"].items():
        meaning = job(name).FIGURES.get(key) or Figure(key.replace("_", " "))
        figures.append({"name": key, "value": value, "sentence": meaning.sentence, "text": meaning.text(value)})
    return {"model": name, "data": training.get("data", ""), "seed": training["training"]["seed"],
            "parameters": parameter_count(run), "steps": int(steps[-1]), "seconds": round(float(seconds[-1]), 1),
            "figures": figures}


def record(folders: list[str]) -> Path:
    """Put runs into the source tree's data/results.json."""
    path = SOURCE_TREE / "results.json"
    results = {(result["model"], result["data"]): result for result in (load_results() if path.exists() else [])}
    for folder in folders:
        result = result_of(RunFolder.open(folder))
        results[result["model"], result["data"]] = result
    write_atomically(path, (json.dumps(list(results.values()), indent=1, ensure_ascii=False) + "\n").encode())
    return path


if __name__ == "__main__":
    try:
        print(record(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"tinymm: {error}")
