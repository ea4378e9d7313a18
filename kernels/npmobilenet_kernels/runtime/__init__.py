"""Runtime: CPU detection, packing, code generation and its cache, threads, and peak measurements."""
