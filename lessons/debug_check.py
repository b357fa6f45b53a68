"""The checks of one chapter, in this very process, so that a debugger can stop in your functions.

    python lessons/debug_check.py lessons/06_attention/exercises.py [EXERCISE]

`tinymm check` is the same for every other purpose: it runs your code in a process of its own, with a limit of time. Here there
is none. Any file of the chapter will do; it is always its exercises.py that is checked.
"""

import sys
from pathlib import Path

from tinymm import UserError
from tinymm.learning.chapters import chapters, import_file
from tinymm.learning.check import tell
from tinymm.learning.worker import check, import_answers


def main(file: str, only: str = "") -> int:
    """Check the chapter that a file belongs to, and print what `tinymm check` prints; returns 0 when all is right."""
    folder = Path(file).resolve().parent
    chapter = next((chapter for chapter in chapters(folder.parent) if chapter.path == folder), None)
    if chapter is None:
        raise UserError(f"{file} is in no chapter; open a file of lessons/NN_topic first")
    exercises = [exercise for exercise in chapter.exercises() if only in ("", str(exercise.number))]
    if not exercises:
        raise UserError(f"chapter {chapter.number} has no exercise {only}")
    answers, solutions = import_answers(folder / "exercises.py"), import_file(folder / "solutions.py")
    results = [check(exercise, answers, solutions) for exercise in exercises]
    print("\n".join(tell(chapter, results)))
    return 0 if all(result.state == "right" for result in results) else 1


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except UserError as error:
        sys.exit(str(error))
