import math

import pytest

from fuseproof import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.significant(1.2345), "1.23"),
        (units.significant(0.9996), "1.00"),
        (units.significant(12345), "12,300"),
        (units.significant(1.5e-7), "1.50e-7"),
        (units.significant(0), "0"),
        (units.significant(math.nan), "–"),
        (units.significant(None), "–"),
        (units.compact(9_994), "9,990"),
        (units.compact(9_996), "10.0k"),
        (units.compact(1_340_000), "1.34M"),
        (units.times(2), "2.00×"),
        (units.bracket(1, 2), "[1.00–2.00]"),
        (units.bracket(0.00426, 14_300_000), "[4.26e-3–14.3M]"),
        (units.bracket(0, math.inf), ""),
        (units.duration(0.00123), "1.23 ms"),
        (units.duration(25), "25.0 s"),
        (units.duration(3e-10), "0.300 ns"),
        (units.duration(None), "–"),
        (units.memory(3 * 2**20), "3.00 MiB"),
        (units.memory(12), "12 B"),
        (units.memory(2**41), "2.00 TiB"),
        (units.duration(999.6e-6), "1.00 ms"),
        (units.duration(80_000, "ns"), "80.0 µs"),
        (units.duration(12.5, "ns"), "12.5 ns"),
        (units.duration(0, "ns"), "0 ns"),
        (units.duration(1_234_000, "cycles"), "1.23 Mcycles"),
        (units.duration(7_200_000_000_000, "ns"), "7,200 s"),
        (units.number(3.0), "3"),
        (units.number(12_345.678), "12,345.68"),
        (units.whole(None), "–"),
        (units.count(1, "case"), "1 case"),
        (units.count(2_000, "case"), "2,000 cases"),
        (units.percent(0.5), "50.0\u00a0%"),
    ],
)
def test_numbers_as_a_reader_sees_them(text, expected):
    assert text == expected
