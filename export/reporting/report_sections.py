"""The parts of a report that only smaller versions have: time, nodes, saturation, metric and gate."""

from export.proving.gate import describe_figures, is_least
from export.proving.latency import BATCHES, MIXED_ROWS
from export.proving.payoff import Measured, verdict
from export.proving.saturation import LARGEST, SMALLEST
from export.reporting.markdown import number, table
from serving.manifest import Int8, Manifest

Proofs = dict[str, dict[str, float | int | str]]
ENGINES = {"int8": "INT8 by onnxruntime", "native": "INT8 by the native engine"}
FORMS = {"fp32": "FP32", **ENGINES, "fp16": "FP16"}
COMPANY = {"int8": "company", "native": "native_company"}
COMPANY_NOTE = (
    "onnxruntime scales activations by the largest value in the whole batch, so an answer depends a little on its "
    "company; the proof `company` says how much on these data. `argmax_agreement` matters if the output holds scores."
)
NATIVE_NOTE = (
    "The native engine scales each row and step by itself, so company, padding and chunks change nothing in its "
    "layers; the proofs `native_company` and `native_chunks` say what is left of the float operators beside them."
)


def precision_sections(manifest: Manifest) -> list[list[str]]:
    """Return the sections that this version's proofs fill, as lines; none for FP32."""
    proofs = {proof.name: proof.measured for proof in manifest.proofs}
    return [
        _int8(manifest.int8, proofs) if manifest.int8 is not None else [],
        _saturation(proofs["saturation"]) if "saturation" in proofs else [],
        _metric(proofs["metric"]) if "metric" in proofs else [],
        _gate(manifest),
    ]


def _int8(int8: Int8, proofs: Proofs) -> list[str]:
    form = "native" if int8.engine == "native" else "int8"
    accuracy, latency = proofs[form], proofs["latency"]
    error = ""
    if "rms_relative" in accuracy:
        error = f" The outputs differ from it by {number(accuracy['rms_relative'])} of their RMS."
    shares = (
        f"Preferred is {ENGINES[form]}. {verdict(latency, form)} Its files are {float(accuracy['size']):.1%} of "
        f"version {int8.source_version}'s (FP32), its weights {float(accuracy['weights_share']):.1%} of that one's."
        f"{error}"
    )
    counts = [(key.removesuffix("_quantized"), str(value)) for key, value in accuracy.items() if "_quantized" in key]
    return [
        "## INT8",
        "",
        shares,
        "",
        *_forms(proofs),
        "",
        f"Time of one run of {latency['steps']} steps on one thread of {latency['cpu']}:",
        "",
        *_times(latency),
        "",
        *table(("operator", "INT8, of those that hold weights"), counts),
        "",
        f"INT8 nodes: {', '.join(int8.quantized_nodes)}. Left in float: {', '.join(int8.float_nodes) or 'none'}.",
        *([] if "int8" not in proofs else ["", COMPANY_NOTE]),
        *([] if "native" not in proofs else ["", NATIVE_NOTE]),
    ]


def _forms(proofs: Proofs) -> list[str]:
    """Compare what there is: FP32 and the INT8 forms."""
    forms = [form for form in ENGINES if form in proofs]
    rows = []
    for form in forms:
        accuracy = proofs[form]
        company = proofs[COMPANY[form]]
        error = accuracy.get("rms_relative", accuracy.get("equal_share", ""))
        metric = proofs.get("metric", {}).get(form, "")
        changed = company.get("relative", company.get("equal_share", ""))
        rows.append(
            (ENGINES[form], f"{accuracy[f'{form}_bytes']:,}", *(number(each) for each in (error, metric, changed)))
        )
    fp32 = ("FP32", f"{proofs[forms[0]]['fp32_bytes']:,}", "", number(proofs.get("metric", {}).get("fp32", "")), "")
    return table(("form", "bytes", "RMS error over RMS", "metric", "what company changes at most"), [fp32, *rows])


def _times(latency: Measured) -> list[str]:
    forms = [form for form in ("fp32", *ENGINES) if f"batch_1_{form}_seconds" in latency]
    cases = [f"batch_{batch}" for batch in BATCHES]
    cases += ["mixed"] if "mixed_fp32_seconds" in latency else []
    rows = []
    for case in cases:
        times = [f"{float(latency[f'{case}_{form}_seconds']) * 1e3:.3f}" for form in forms]
        gains = [f"x{float(latency[f'{case}_{form}_speedup']):.2f}" for form in forms[1:]]
        name = f"{MIXED_ROWS}, lengths 1 to {latency['steps']}" if case == "mixed" else case.removeprefix("batch_")
        rows.append((name, *times, *gains))
    names = ["FP32", *(ENGINES[form] for form in forms[1:])]
    head = ("batch", *(f"{name}, ms" for name in names), *(f"{name}, speed-up" for name in names[1:]))
    return table(head, rows)


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


def _metric(measured: Measured) -> list[str]:
    values = ", ".join(f"{name} {number(measured[form])}" for form, name in FORMS.items() if form in measured)
    sentence = (
        f"`{measured['function']}` over {measured['rows']} sequences, {measured['better']} is better: {values}. The "
        f"loss of the preferred form is {number(measured['loss'])}."
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
