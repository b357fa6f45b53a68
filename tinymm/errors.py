"""The error a user should see: one clear sentence, no traceback."""


class UserError(Exception):
    """A mistake in what the user gave (a missing file, an empty question, a foreign checkpoint), said in one sentence.

    The command line prints the sentence and exits with code 2. In Python it is an ordinary exception.
    """
