"""One layer from seven loops to all cores: what each step brings, on this machine.

In reading order:

    separable_block  the depthwise and the pointwise convolution of a network, and the standard one that they replace
    rungs            the same block, computed in nine ways;  all_rungs  their table
    bounds           how far rounding may take a rung from float64
    measuring        checks and interleaved times, in a process of its own
    sources          the text of the functions that run
"""
