"""Speed of the engine: compared with other runtimes and with the CPU's peak, and step by step.

In reading order:

    random_weights  networks with random weights, and images for them
    runtimes        the other runtimes;  onnx_builder, export_onnx, export_tflite  the same network in their formats
    worker          one runtime in a process of its own
    turns           interleaved runs of several processes
    machine         the name of the CPU
    measure         check of the outputs, then times, and derived figures
"""
