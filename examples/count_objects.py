"""Count the objects on photographs: python examples/count_objects.py photos/*.jpg --model detect.tflite"""

import argparse
from collections import Counter

import npmobilenet as nm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", nargs="+")
    parser.add_argument("--model", required=True, help="a detector: .tflite, .pth or .safetensors")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score that counts")
    options = parser.parse_args()
    detector = nm.load(options.model)
    for photograph, found in detector.detect_each(options.photographs, threshold=options.threshold):
        if isinstance(found, nm.NpMobileNetError):
            print(f"{photograph}: {found}")
            continue
        counts = Counter(one.label for one in found)
        print(f"{photograph}: {', '.join(f'{count} {label}' for label, count in counts.most_common()) or 'nothing'}")


if __name__ == "__main__":
    main()
