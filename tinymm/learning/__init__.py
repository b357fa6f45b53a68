"""The learner's tools: `step` walks through a script and shows its arrays; `check` examines answers to the exercises.

The checker's files, from the bottom up: exercise (what an exercise is), compare (is an answer right, and why not), chapters
(where the lessons are), worker (the process in which a learner's code runs), check (the command).
"""
