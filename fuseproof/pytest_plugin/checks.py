"""The fixture `fuseproof_check`: a test that fails, with the report, unless a function is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fuseproof.checking.result import Checked


# Of the session: it has no state, and Hypothesis takes no fixture that is made for each test.
@pytest.fixture(scope="session")
def fuseproof_check() -> Callable[..., Checked]:
    """A function that checks another one, as often as a test likes, and fails the test if that is wrong.

    `fuseproof_check(function, *arguments, reference=other)`: the arguments, or instead of them `inputs`, a
    function of a seed; further keywords are those of `fuseproof.check`. Nothing is timed. The text of the
    assertion is the report. Returns the `Checked`; skips the test if nothing could be checked here, such as
    on a GPU that is not there.
    """

    def check(function: Any, *arguments: Any, **given: Any) -> Checked:
        __tracebackhide__ = True
        from fuseproof.checking.check import check as checked
        from fuseproof.errors import UserError

        if ("inputs" in given) == bool(arguments):
            pytest.fail("give the function's arguments after it, or else inputs=", pytrace=False)
        try:
            inputs = given.pop("inputs", arguments)
            found = checked(function, inputs=inputs, **given)
        except UserError as error:
            pytest.fail(str(error), pytrace=False)
        if all(point.skipped for point in found.points):
            pytest.skip(found.points[0].skipped)
        found.raise_if_wrong()
        return found

    return check
