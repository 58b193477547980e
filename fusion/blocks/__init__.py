"""Network blocks in each framework, one a file, with the same names in each.

Each name makes a module of the block's fields; `module_of` of a framework makes such a maker of a function.

To add a framework, or a library such as Keras: a folder whose names make modules with the block's parameters,
and rows in `fuseproof/implementations/builtin.py`. Names and shapes must be those of the block, or the module
is refused; weights of a layer are named by attributes and their own names (`frameworks/keras_layers.py`).
"""
