"""Tables for data frames: columns with a kind, a unit and a meaning, and how each library takes them.

Nothing here imports pandas, polars or PyArrow until it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Kind = Literal["text", "number", "count", "truth"]

# The type of each kind of column, by library.
_PANDAS: Final[Mapping[Kind, str]] = {
    "text": "string",
    "number": "float64",
    "count": "Int64",
    "truth": "boolean",
}
_POLARS: Final[Mapping[Kind, str]] = {
    "text": "String",
    "number": "Float64",
    "count": "Int64",
    "truth": "Boolean",
}
_ARROW: Final[Mapping[Kind, str]] = {
    "text": "string",
    "number": "float64",
    "count": "int64",
    "truth": "bool_",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    kind: `text`, `number` (64-bit float), `count` (64-bit integer) or `truth`; any of them may be null.
    unit: of its values: `s`, `bytes`, `1/s`; empty for names, counts and ratios.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Columns of one length, for whichever library of data frames is installed.

    values: by the column's name; None is unknown.

    Libraries that read the Arrow PyCapsule interface take it as it is, where PyArrow is installed:
    `polars.DataFrame(table)`, `pyarrow.table(table)`.
    """

    columns: tuple[Column, ...]
    values: Mapping[str, Sequence[Any] | NDArray[Any]]

    def __len__(self) -> int:
        return len(self.values[self.columns[0].name])

    def __repr__(self) -> str:
        names = ", ".join(column.name for column in self.columns)
        return f"<Table of {len(self):,} rows: {names}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each row; needs no library."""
        columns = (self.values[column.name] for column in self.columns)
        plain = [each.tolist() if isinstance(each, np.ndarray) else each for each in columns]
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*plain, strict=True)]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame with `string`, `float64`, `Int64` and `boolean` columns.

        Raises UserError, with the command that installs it, if pandas is not there.
        """
        pd = _library("pandas", "to_pandas()")
        return pd.DataFrame(
            {column.name: pd.array(values, dtype=_PANDAS[column.kind]) for column, values in self._listed()}
        )

    def to_polars(self) -> polars.DataFrame:
        """A polars DataFrame. Raises UserError, with the command that installs it, if polars is not there."""
        pl = _library("polars", "to_polars()")
        return pl.DataFrame(
            {column.name: values for column, values in self._listed()},
            schema={column.name: getattr(pl, _POLARS[column.kind]) for column in self.columns},
        )

    def to_arrow(self) -> pyarrow.Table:
        """A PyArrow table whose fields have `unit` and `meaning` as metadata.

        Raises UserError, with the command that installs it, if PyArrow is not there.
        """
        pa = _library("pyarrow", "to_arrow()")
        fields = [
            pa.field(
                column.name,
                getattr(pa, _ARROW[column.kind])(),
                metadata={"unit": column.unit, "meaning": column.meaning},
            )
            for column in self.columns
        ]
        return pa.table({column.name: values for column, values in self._listed()}, schema=pa.schema(fields))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface, by PyArrow."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _listed(self) -> Iterator[tuple[Column, Sequence[Any] | NDArray[Any]]]:
        return ((column, self.values[column.name]) for column in self.columns)


def of_rows(columns: tuple[Column, ...], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of dictionaries; what one of them lacks is unknown."""
    return Table(
        columns=columns,
        values={column.name: [_as(column.kind, row.get(column.name)) for row in rows] for column in columns},
    )


def columns(*rows: tuple[str, Kind, str, str]) -> tuple[Column, ...]:
    """Columns of (name, kind, unit, meaning)."""
    return tuple(
        Column(name=name, kind=kind, unit=unit, meaning=meaning) for name, kind, unit, meaning in rows
    )


def _as(kind: Kind, value: Any) -> Any:
    """A file may have an integer where a number is meant, and one that 64 bits do not hold."""
    return float(value) if kind == "number" and value is not None else value


def _library(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what} needs {name}: pip install {name}; to_dicts() needs no library") from None
