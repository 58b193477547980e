"""The page as a browser or a screen reader gets it: parsed, never compared as a string."""

import json
import re
from dataclasses import replace

import pytest
from support.browser import open_page
from support.pages import HOSTILE, Page

from fuseproof import offline_page
from fuseproof.reports import report
from fuseproof.reports.report import formats
from fuseproof.reports.report.html import page, plots
from fuseproof.reports.report.summary import Interval
from fuseproof.runs.records import Failure

NOISE = {"process_noise": 0.01, "round_noise": 0.01, "legs": 8, "rounds": 1}


def page_of(run):
    return Page(report.render(report.summarise([run]), "html"))


@pytest.fixture(scope="module")
def demo(a_run, comparisons, a_benchmark):
    """Two comparisons over six cases in two dtypes, a twin, an error and something skipped."""
    composed = ("torch.eager-composed", "torch.compile-composed")
    benchmarks = []
    for dtype in ("float32", "bfloat16"):
        some = {**NOISE, "dtype": dtype, "compile_seconds": 3.0, "peak_memory_bytes": 2**21}
        benchmarks += comparisons([0.8, 1.0, 1.1, 1.2, 1.5, 2.4], **some)
        benchmarks += comparisons([1.5] * 6, pair=composed, baseline=composed[0], **some)
    group = benchmarks[0].group
    benchmarks.append(a_benchmark("torch.eager-null", case=group, seconds=0.8e-3, **NOISE))
    failures = [
        Failure(group=group, implementation="triton", kind="skipped", stage="plan", message="needs a GPU"),
        Failure(
            group=group, implementation="tf.xla", kind="error", stage="check", message="wrong: all zeros"
        ),
    ]
    settings = {"blocks": 5, "threads": 2, "command": ["fuseproof", "run", "demo", "--out", "my runs"]}
    environment = {"cpu": {"model": "Abacus 9000"}, "memory_bytes": 2**34, "packages": {"torch": "2.13.0"}}
    return replace(a_run(benchmarks, failures=failures), settings=settings, environment=environment)


@pytest.fixture(scope="module")
def demo_html(demo):
    return report.render(report.summarise([demo]), "html")


def test_every_comparison_is_on_the_page_without_javascript(demo, demo_html):
    summary = report.summarise([demo])
    compared = {i: row for i, row in enumerate(summary.rows) if row.speedup}
    lines = {int(e["data-id"]): e for e in Page(demo_html).forest() if "data-id" in e}
    assert lines.keys() == compared.keys()
    for index, line in lines.items():
        assert line["data-implementation"] == compared[index].implementation
        assert float(line["data-value"]) == compared[index].speedup.value


def test_the_glance_puts_each_mean_under_its_operator_and_pass(a_run, comparisons):
    run = a_run(
        comparisons([1.2, 1.3, 1.4], **NOISE) + comparisons([1.6] * 2, pass_="forward_backward", **NOISE)
    )
    summary = report.summarise([replace(run, benchmarks=run.benchmarks[::-1])])
    (glance,) = page.glances(summary)
    columns = [(operator, pass_) for operator, passes in glance.operators for pass_ in passes]
    assert len(columns) == 2 + 2 + 2 + 1
    ((_, cells),) = glance.rows
    assert [(mean.operator or "", mean.pass_) for mean in cells] == columns
    assert [columns[start] for start in glance.starts] == [
        next(column for column in columns if column[0] == operator) for operator, _ in glance.operators
    ]


def test_means_of_single_dtypes_wait_for_their_filter(demo_html):
    means = [e for e in Page(demo_html).forest() if "data-id" not in e]
    assert {e["data-dtype"] for e in means if "hidden" not in e} == {""}
    assert {e["data-dtype"] for e in means if "hidden" in e} == {"float32", "bfloat16"}


def test_the_page_says_what_it_must(demo_html):
    words = Page(demo_html).words
    for expected in (
        "Abacus 9000, 2 threads",
        "wrong: all zeros",
        "needs a GPU",
        "In 1 of 1 comparisons of an implementation with itself",
        "fuseproof run demo --out 'my runs'",
        "run/run.json",
        "torch.compile made the cases",
        "16.0 GiB",
    ):
        assert expected in words


def test_a_failed_implementation_has_no_line_and_a_twin_neither(demo_html):
    names = {e["data-implementation"] for e in Page(demo_html).forest()}
    assert names == {"torch.compile", "torch.compile-composed"}


def test_the_embedded_data_round_trips(demo, demo_html):
    summary = report.summarise([demo])
    data = Page(demo_html).data
    assert {int(key) for key in data["details"]} == {i for i, row in enumerate(summary.rows) if row.speedup}
    assert [len(strip["lines"]) for strip in data["strips"]] == [6] * len(data["details"])


def test_nothing_is_fetched(demo_html):
    parsed = Page(demo_html)
    links = [
        value
        for _, attributes in parsed.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert all(link.startswith(("#", "data:")) for link in links)
    styles = " ".join([*parsed.styles, *(a.get("style") or "" for _, a in parsed.elements)])
    assert not re.search(r"url\(|@import|//", styles)
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?:", parsed.code)


def test_hostile_names_and_messages_are_inert(a_run, a_benchmark, demo_html):
    run = a_run(
        [a_benchmark(**NOISE), a_benchmark(HOSTILE, seconds=9e-4, compile_seconds=1.0, **NOISE)],
        failures=[
            Failure(group=HOSTILE, implementation=HOSTILE, kind="error", stage="check", message=HOSTILE)
        ],
        source=HOSTILE,
    )
    hostile = replace(
        run,
        suite=HOSTILE,
        environment={HOSTILE: HOSTILE},
        settings={"command": [HOSTILE], HOSTILE: [HOSTILE]},
    )
    parsed = page_of(hostile)
    assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in Page(demo_html).elements}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in parsed.data["details"]["1"][0][1]
    assert sum(tag == "script" for tag, _ in parsed.elements) == 2


def test_embedded_json_cannot_end_its_script():
    text = offline_page.embed({"name": HOSTILE})
    assert json.loads(text) == {"name": HOSTILE}
    assert not set(text) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(("complete", "alerts"), [(True, 0), (False, 1)])
def test_an_incomplete_run_is_marked(demo, complete, alerts):
    parsed = page_of(replace(demo, complete=complete))
    assert sum(attributes.get("role") == "alert" for _, attributes in parsed.elements) == alerts
    assert ("Incomplete run" in parsed.words) is not complete


def test_a_demo_sized_page_stays_small(a_run, comparisons):
    names = [("torch.eager", f"torch.{n}") for n in ("compile", "a", "b", "c", "d", "e", "f", "g")]
    benchmarks = {
        b.name: b
        for pair in names
        for pass_ in ("forward", "forward_backward")
        for b in comparisons([1.2] * 9, pair=pair, pass_=pass_, compile_seconds=1.0, **{**NOISE, "legs": 40})
    }
    text = report.render(report.summarise([a_run(list(benchmarks.values()))]), "html")
    assert len(Page(text).data["details"]) == 18 * 8
    assert len(text.encode()) < 1_000_000


def test_a_log_axis_puts_2x_and_half_equally_far_from_1x():
    scale = plots.LogScale(low=0.25, high=4.0)
    assert [scale.x(v) for v in (0.25, 0.5, 1, 2, 4)] == [0, 25, 50, 75, 100]
    assert (scale.x(0.0), scale.x(float("inf"))) == (0, 100)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.98, 1.03), (0.9, 1.3), (0.5, 3.0), (0.05, 40.0), (1.0, 1e7), (1e-9, 1e9), (1.0, 1.0001)],
)
def test_an_axis_has_a_readable_number_of_ticks(low, high):
    ticks = plots.scale_over([low, high]).ticks("×")
    positions = [x for x, _ in ticks]
    assert 3 <= len(ticks) <= 9
    assert positions == sorted(set(positions))
    assert len({label for _, label in ticks}) == len(ticks)
    assert not [label for _, label in ticks if "e-0" in label or "e+" in label]


def test_one_wild_interval_does_not_squeeze_the_axis():
    wild = Interval(value=1.5, low=1e-3, high=2e3, blocks=2)
    scale = plots.forest_scale([wild], [1.3, 1.6])
    assert scale.low > 0.5
    assert scale.high < 3


@pytest.fixture(scope="module")
def demo_file(demo_html, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "page.html"
    file.write_text(demo_html, encoding="utf-8")
    return file


def test_the_page_works_in_a_browser_at_phone_width(browser, demo_file, demo_html):
    with open_page(browser, demo_file.as_uri(), width=390, height=844) as (opened, log):
        assert opened.evaluate("document.documentElement.scrollWidth") == 390
        shown = opened.locator("#forest tr.case:visible")
        assert shown.count() == 24
        opened.locator("[name=dtype]").select_option("bfloat16")
        assert shown.count() == 12
        means = opened.locator("#forest tr.mean:visible")
        assert set(means.evaluate_all("rows => rows.map((row) => row.dataset.dtype)")) == {"bfloat16"}
        opened.locator("[name=dtype]").select_option("")
        opened.locator("[name=group]").select_option("implementation")
        opened.locator("[name=order]").select_option("value")
        groups = opened.locator("#forest tbody.cases").evaluate_all(
            "bodies => bodies.map((body) =>"
            " [...body.querySelectorAll('tr.case')].map((row) => Number(row.dataset.value)))"
        )
        assert [len(group) for group in groups] == [12, 12]
        assert all(group == sorted(group, reverse=True) for group in groups)
        table = opened.locator("table.sortable").first
        table.locator("thead button").nth(2).click()
        values = table.locator("tbody tr").evaluate_all(
            "rows => rows.map((row) => Number(row.cells[2].dataset.value)).filter((value) => value)"
        )
        assert values == sorted(values)
        opened.locator("#comparison").select_option("1")
        strip = opened.locator("#strip tbody tr td:last-child").all_text_contents()
        assert strip == [line["text"] for line in Page(demo_html).data["strips"][1]["lines"]]
        opened.locator("#forest tr.case").first.hover()
        assert "Bootstrap" in opened.locator("#details").text_content()
        opened.locator("#theme").click()
        assert opened.evaluate("document.documentElement.dataset.theme") in ("light", "dark")
        assert log.errors == [] and log.requests == [demo_file.as_uri()]


def test_the_browser_check_would_notice_an_error(browser, demo_html, tmp_path):
    broken = tmp_path / "broken.html"
    # The policy would not even let a changed script run.
    text = demo_html.replace("Content-Security-Policy", "no-policy", 1)
    broken.write_text(text.replace('"use strict";', "undefinedFunction();", 1), encoding="utf-8")
    with open_page(browser, broken.as_uri()) as (_, log):
        assert any("undefinedFunction" in error for error in log.errors)


@pytest.fixture(scope="module")
def three(a_run, a_benchmark):
    """Three implementations of two cases, the last of which is another's framework."""
    cases = ("layer_norm[64x64-float32-forward]", "matmul[8x8x8-float32-forward]")
    return a_run(
        [
            a_benchmark(
                name, seconds=seconds * (1 + number), case=case, baseline=own, compile_seconds=1.0, **NOISE
            )
            for number, case in enumerate(cases)
            for name, own, seconds in (
                ("torch.eager", "torch.eager", 1e-3),
                ("torch.compile", "torch.eager", 5e-4),
                ("jax.jit", "jax.jit", 2e-3),
            )
        ]
    )


def test_the_reader_chooses_the_baseline(browser, three, tmp_path):
    file = report.write([three], tmp_path / "report.html")
    script = "rows => rows.map((row) => [row.dataset.implementation, Number(row.dataset.value)])"
    with open_page(browser, file.as_uri()) as (opened, log):
        select = opened.locator("[name=baseline]")
        assert select.locator("option").evaluate_all("all => all.map((one) => one.value)") == [
            "own",
            "torch.eager",
            "torch.compile",
            "jax.jit",
        ]
        for name in ("jax.jit", "torch.compile", "own"):
            select.select_option(name)
            opened.locator(
                f"#forest small:text('vs {name}')" if name != "own" else "#verdict"
            ).first.wait_for()
            opened.wait_for_timeout(200)
            expected = [
                [row.implementation, row.speedup.value]
                for row in report.summarise([three], baseline=name).rows
                if row.speedup
            ]
            assert opened.locator("#forest tr.case").evaluate_all(script) == expected
        select.select_option("torch.compile")
        opened.wait_for_timeout(300)
        opened.locator("#forest tr.case").first.hover()
        assert "vs torch.compile" in opened.locator("#details").text_content()
        opened.locator("[name=group]").select_option("implementation")
        assert opened.locator("#forest tbody.cases").count() == 2
        opened.locator("#comparison").select_option("1")
        assert log.errors == [] and log.requests == [file.as_uri()]


def test_too_many_comparisons_leave_a_choice_of_what_is_a_baseline_already(three, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_MOST_COMPARISONS", 10)
    page_ = Page(report.write([three], tmp_path / "report.html").read_text())
    assert list(page_.data["pages"]) == ["own", "torch.eager", "jax.jit"]
    assert "others: fuseproof report --baseline NAME" in page_.words


def test_a_page_without_a_choice_offers_none(a_run, comparisons, tmp_path):
    (pair,) = [comparisons([1.2], **NOISE)]
    text = report.write([a_run(pair[:1])], tmp_path / "one.html").read_text()
    assert "against" not in {attributes.get("id") for _, attributes in Page(text).elements}
