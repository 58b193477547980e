"""Two commits measured in one job: base, head and base again take turns, in fresh processes and drawn order.

`checkout` is a state of the repository with the Python that measures it, `command` what is measured there,
and `rounds` the turns that they take. The gate judges what they leave: run files.
"""
