"""The one exception a user is meant to read."""


class UserError(Exception):
    """Bad input: the message is one line that names what is wrong and the remedy. The CLI exits with 2."""
