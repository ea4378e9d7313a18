"""How fast the engine is: beside other engines, beside what the CPU can do at most, and step by step.

In reading order:

    networks     what is measured: weights, own or random, and pictures
    peers        the other engines;  onnx_file, tflite_file  the same network in their formats
    worker       one engine in a process of its own
    rounds       processes that take turns
    measuring    answers checked, then times, and what follows from them
    command      `npmobilenet bench`
"""
