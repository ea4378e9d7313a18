"""Compare another implementation of a network with what it should compute, and name the mistake.

In reading order:

    segments     a piece of the network, computed from the other side's own inputs, and its tolerance
    layouts      the other side's arrays in our order of axes
    comparing    the walk over the layers
    explaining   mistakes tried on a wrong layer
    causes       the mistakes in layers;  pictures, formats, solving  those before, in and between them
    matching     whose name is whose
    dumps        files of arrays, Keras and ONNX models, packs
    command      `npmobilenet compare`
"""

from npmobilenet.porting.diagnose.explain import Explanation
from npmobilenet.porting.diagnose.mistakes.input_mistakes import Picture
from npmobilenet.porting.diagnose.walk import Comparison, Finding, compare

__all__ = ["Comparison", "Explanation", "Finding", "Picture", "compare"]
