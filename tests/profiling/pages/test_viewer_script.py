"""The viewer's modules as one script: in order of their imports, without what only a module may have."""

import re

import pytest

from fuseproof.profiling.pages.viewer_script import join, viewer_script


def joined(**modules):
    return join("main.js", lambda name: modules[name.removesuffix(".js")])


def test_a_module_stands_after_what_it_imports():
    text = joined(
        main='import { one } from "./a.js";\nimport {\n  two,\n} from "./b.js";\n\none(two);\n',
        a='import { two } from "./b.js";\n\nexport function one() { return two; }\n',
        b="export const two = 2;\n",
    )
    assert [line for line in text.splitlines() if line] == [
        '"use strict";',
        "(() => {",
        "const two = 2;",
        "function one() { return two; }",
        "one(two);",
        "})();",
    ]


@pytest.mark.parametrize(
    "line",
    [
        'import fs from "node:fs";',
        'import { one as other } from "./a.js";',
        'import { one } from "./folder/a.js";',
        "export default function () {}",
        "export { one };",
    ],
)
def test_what_would_not_survive_joining_is_refused(line):
    with pytest.raises(ValueError, match=r"main\.js: cannot join"):
        joined(main=f"{line}\n", a="export const one = 1;\n")


def test_modules_that_import_each_other_are_refused():
    with pytest.raises(ValueError, match=r"main\.js → a\.js → main\.js"):
        joined(main='import { a } from "./a.js";\n', a='import { b } from "./main.js";\n')


def test_a_name_that_two_modules_declare_is_refused():
    with pytest.raises(ValueError, match=r"a\.js and main\.js both declare one"):
        joined(
            main='import { two } from "./a.js";\nconst one = two;\n',
            a="const one = 1;\nexport const two = one;\n",
        )


def test_the_viewer_s_own_script_is_not_a_module():
    assert not re.search(r"^\s*(import|export)\b", viewer_script(), re.MULTILINE)
    assert viewer_script().rstrip().endswith("})();")
