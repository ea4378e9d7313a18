"""The essence of a quantized network's golden data for programs that do not read JSON: C and Verilog."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def index_text(manifest: Mapping[str, Any]) -> str:
    """`raw/index.tsv`: tab-separated lines.

    rule    name
    tensor  kind/name  dtype  axes  shape  zero_point  file
    window  number  type  stride_y  stride_x  top  left  dilation_y  dilation_x  low  high  layer  input  weights  bias
    """
    lines = [f"rule\t{manifest['rule']}"]
    for entry in manifest["tensors"]:
        shape = ",".join(map(str, entry["shape"]))
        columns = ("tensor", f"{entry['kind']}/{entry['name']}", entry["dtype"], entry["axes"], shape,
                   _zero_point(entry, manifest), entry["stored"]["raw"]["file"])  # fmt: skip
        lines.append("\t".join(columns))
        if entry.get("type") in WINDOWS:
            (top, _), (left, _) = entry["padding"]
            numbers = (*entry["stride"], top, left, *entry["dilation"], *entry["limits"])
            names = (entry["name"], *entry["inputs"], "-")[:4]
            lines.append("\t".join(("window", str(entry["operator"]), entry["type"], *map(str, numbers), *names)))
    return "\n".join(lines) + "\n"


def write_headers(folder: Path, manifest: Mapping[str, Any]) -> None:
    """`windows/NUMBER.vh` for every convolution: sizes, zero points and file names as Verilog's localparams."""
    entries = {(entry["kind"], entry["name"]): entry for entry in manifest["tensors"]}
    (folder / "windows").mkdir()
    for entry in manifest["tensors"]:
        chosen = ("multipliers", entry["name"]) in entries
        if entry.get("type") in WINDOWS and chosen and len(entry["inputs"]) == 3:
            text = _header(entry, entries, manifest)
            (folder / "windows" / f"{entry['operator']}.vh").write_text(text, encoding="ascii")


def _header(
    entry: Mapping[str, Any], entries: Mapping[tuple[str, str], Mapping[str, Any]], manifest: Mapping[str, Any]
) -> str:
    name, (source, weights, bias) = entry["name"], entry["inputs"]
    x = entries.get(("outputs", source)) or entries["image", "input"]
    w = entries["weights", weights]
    (top, _), (left, _) = entry["padding"]
    _, H, W, C = x["shape"]
    _, H_out, W_out, C_out = entry["shape"]
    numbers = {
        "DEPTHWISE": int(entry["type"] == "DEPTHWISE_CONV_2D"),
        "H": H, "W": W, "C": C, "H_OUT": H_out, "W_OUT": W_out, "C_OUT": C_out,
        "K_H": entry["window"][0], "K_W": entry["window"][1], "DEPTH": w["shape"][3],
        "STRIDE_Y": entry["stride"][0], "STRIDE_X": entry["stride"][1], "TOP": top, "LEFT": left,
        "DILATION_Y": entry["dilation"][0], "DILATION_X": entry["dilation"][1],
        "SIGNED": int(entry["dtype"] == "int8"),
        "ZERO_X": _zero_point(x, manifest), "ZERO_W": w["zero_point"], "ZERO_Y": entry["zero_point"],
        "LOW": entry["limits"][0], "HIGH": entry["limits"][1],
    }  # fmt: skip
    files = {
        "X_FILE": x, "W_FILE": w, "B_FILE": entries["weights", bias], "Q_FILE": entries["multipliers", name],
        "S_FILE": entries["shifts", name], "ACC_FILE": entries["accumulators", name], "Y_FILE": entry,
    }  # fmt: skip
    lines = [f"localparam {key} = {value};" for key, value in numbers.items()]
    lines += [f'localparam {key} = "{tensor["stored"]["readmemh"]["file"]}";' for key, tensor in files.items()]
    return "\n".join(lines) + "\n"


def _zero_point(entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    if (entry["kind"], entry["name"]) == ("image", "input"):
        how = manifest["quantization"].get(str(manifest["network"]["inputs"][0]))
        return "-" if how is None else str(how["zero_point"][0])
    return str(entry.get("zero_point", "-"))
