"""The commands of `tinymm`, a file a subject. Each has `add(commands)`, which describes its options to the parser.

A command is a function that takes the parsed options and returns an exit code. The heavy imports stand inside, so that
`tinymm --help` answers at once.
"""
