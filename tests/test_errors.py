"""The error that a user is meant to read is one line, also where it is shown by a notebook."""

from fuseproof.errors import UserError


def test_a_notebook_shows_the_line_and_nothing_that_moves_its_cursor():
    shown = UserError("no such run: é×\x1b[31m\nx\u202e")._render_traceback_()
    assert shown == ["UserError: no such run: é× [31m x "]
