"""The parts of a report that only smaller versions have: time, nodes, saturation, metric and gate."""

from export.proving.gate import describe_figures, is_least
from export.proving.latency import BATCHES
from export.proving.payoff import Measured, verdict
from export.proving.saturation import LARGEST, SMALLEST
from export.reporting.markdown import number, table
from serving.manifest import Int8, Manifest

COMPANY_NOTE = (
    "onnxruntime scales activations by the largest value in the whole batch, so an answer depends a little on its "
    "company; the proof `company` says how much on these data. `argmax_agreement` matters if the output holds scores."
)


def precision_sections(manifest: Manifest) -> list[list[str]]:
    """Return the sections that this version's proofs fill, as lines; none for FP32."""
    proofs = {proof.name: proof.measured for proof in manifest.proofs}
    return [
        _int8(manifest.int8, proofs) if manifest.int8 is not None else [],
        _saturation(proofs["saturation"]) if "saturation" in proofs else [],
        _metric(proofs["metric"], manifest.precision) if "metric" in proofs else [],
        _gate(manifest),
    ]


def _int8(int8: Int8, proofs: dict[str, dict[str, float | int | str]]) -> list[str]:
    accuracy, latency = proofs["int8"], proofs["latency"]
    error = ""
    if "rms_relative" in accuracy:
        error = f" The outputs differ from it by {number(accuracy['rms_relative'])} of their RMS."
    shares = (
        f"{verdict(latency)} The file is {float(accuracy['size']):.1%} of version {int8.source_version}'s (FP32), its "
        f"weights are {float(accuracy['weights_share']):.1%} of that one's.{error}"
    )
    counts = [(key.removesuffix("_quantized"), str(value)) for key, value in accuracy.items() if "_quantized" in key]
    return [
        "## INT8",
        "",
        shares,
        "",
        f"Time of one run of {latency['steps']} steps on one thread of {latency['cpu']}:",
        "",
        *_times(latency),
        "",
        *table(("operator", "INT8, of those that hold weights"), counts),
        "",
        f"INT8 nodes: {', '.join(int8.quantized_nodes)}. Left in float: {', '.join(int8.float_nodes) or 'none'}.",
        "",
        COMPANY_NOTE,
    ]


def _times(latency: Measured) -> list[str]:
    rows = [
        (
            str(batch),
            *(f"{float(latency[f'batch_{batch}_{key}_seconds']) * 1e3:.3f}" for key in ("fp32", "int8")),
            f"x{float(latency[f'batch_{batch}_speedup']):.2f}",
        )
        for batch in BATCHES
    ]
    return table(("batch", "FP32 ms", "INT8 ms", "speed-up"), rows)


def _saturation(measured: Measured) -> list[str]:
    nodes = [
        (key.removeprefix("at_risk "), str(value)) for key, value in measured.items() if key.startswith("at_risk ")
    ]
    return [
        "## Saturation",
        "",
        "Processors without VNNI add the products of two neighbours in 16 bits. Computed from the weights in the file, "
        f"{float(measured['share']):.2%} of {measured['pairs']:,} pairs can leave {SMALLEST} to {LARGEST}; the worst "
        f"reaches {measured.get('worst', 'nothing')}"
        + (f" ({measured['worst_node']})." if "worst_node" in measured else "."),
        "",
        *table(("node", "pairs at risk"), nodes),
    ]


def _metric(measured: Measured, precision: str) -> list[str]:
    sentence = (
        f"`{measured['function']}` over {measured['rows']} sequences, {measured['better']} is better: FP32 "
        f"{number(measured['fp32'])}, {precision.upper()} {number(measured[precision])}, a loss of "
        f"{number(measured['loss'])}."
    )
    return ["## Metric", "", sentence]


def _gate(manifest: Manifest) -> list[str]:
    gate = next((proof for proof in manifest.proofs if proof.name == "gate"), None)
    if gate is None or gate.limit is None:
        return []
    rows = [
        (name, number(gate.measured[name]), f"at {'least' if is_least(name) else 'most'} {limit:g}")
        for name, limit in gate.limit.items()
    ]
    verdict_of_gate = "All limits were kept." if gate.passed else "**A limit was broken.**"
    return [
        "## Gate",
        "",
        verdict_of_gate,
        "",
        *table(("figure", "measured", "limit"), rows),
        "",
        describe_figures() + ".",
    ]
