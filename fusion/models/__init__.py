"""Whole models, by the library that they come from: functions of the shape's fields that make one."""
