"""Diagnosis of a port: find the first layer that it computes wrongly, and name the mistake.

In reading order:

    analysis.segments  a piece of the network, computed from the port's own arrays, and its tolerance
    axes               arrays in any order of axes
    walk               the walk over the layers
    explain            candidate mistakes, tried on a wrong layer
    mistakes           known mistakes: in layers, in the input, in precision, and fitted ones
    dump_matching      names of a dump, matched to layers
    dumps              files of arrays, Keras and ONNX models, golden data

and for quantized networks

    port_integers      a port's arrays as integers of the network's tensors
    integer_parts      a piece of the network, computed from them
    integer_walk       the walk over the operators, under every rule
    mistakes           known mistakes: in sums, in other operators
"""

from npmobilenet.porting.diagnose.explain import Explanation
from npmobilenet.porting.diagnose.mistakes.input_mistakes import InputImage
from npmobilenet.porting.diagnose.walk import Diagnosis, Finding, diagnose

__all__ = ["Diagnosis", "Explanation", "Finding", "InputImage", "diagnose"]
