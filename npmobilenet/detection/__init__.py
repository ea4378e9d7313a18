"""From the two outputs of an SSD network to boxes: anchors, box coder, scores, non-maximum suppression.

    anchors (A, 4)  +  box codes (A, 4)      ->  boxes (A, 4)          anchors.py, box_coder.py
    scores (A, slots)                        ->  probabilities         tensorflow_rule.py, torchvision_rule.py
    boxes and probabilities                  ->  what remains          suppression.py

Two worlds do these steps otherwise, and both are here to the bit: TensorFlow Lite's `TFLite_Detection_PostProcess` and
torchvision's `SSD.postprocess_detections`.
"""
