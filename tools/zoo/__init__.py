"""A zoo of ONNX files: many architectures, both torch exporters, weights that leave no test blind.

    entry             what describes one architecture, and its inputs
    *_models          the lists, one library (or one kind of hand-written model) a file
    catalogue         all of them in one order, a diverse handful first
    randomise         weights that make a wrong prune visible
    export            one architecture by one exporter
    isolated          runs a task in a process of its own
    limits            of processor time
    store             manifest and failures on disk
    torchvision_shim  imports torchvision beside a torch build that it was not compiled for

Listing the catalogue imports none of the libraries; building an entry imports its own.
"""
