"""Correctness alone, in the caller's process: what of a function is wrong, and where?

`check` is the public function, `result` what it returns. `subject` has the arguments, `reference` what is
right, `runs` the calls that show faults, `judging` and `memory` their verdicts, `libraries` what differs
between PyTorch, JAX, TensorFlow and NumPy.
"""

from fuseproof.checking.inspection import CHECKS
from fuseproof.checking.result import Checked, Failure, Point

__all__ = ["CHECKS", "Checked", "Failure", "Point"]
