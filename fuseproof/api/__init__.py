"""The Python API: results as objects for notebooks, scripts and data frames.

`load` reads a run, `Comparison` is what one shows. `records` has what a comparison is made of, `table` the
columns of data frames, `display` the texts and the HTML of a notebook.
"""

from fuseproof.api.comparison import Comparison, load
from fuseproof.api.records import Check, Speedup
from fuseproof.api.table import Column, Table

__all__ = ["Check", "Column", "Comparison", "Speedup", "Table", "load"]
