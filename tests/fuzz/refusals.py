"""Every way in which a request can be refused before it is queued, by what its message says."""

import re

from serving.errors import ServingError

REFUSALS = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "no message": r"^the bytes that were sent are no ModelInferRequest$",
        "no model": r"^no model '.*' is loaded; RepositoryIndex lists",
        "no version": r"^model '.*' has no version '.*'; it has \[",
        "sequence": r"^parameter 'sequence_(id|start|end)' asks the server to keep",
        "timeout": r"^parameter 'timeout' must be a whole number",
        "priority": r"^parameter 'priority' must be a whole number",
        "tensor's parameter": r"^(input|output) '.*': parameter '.*' is not supported",
        "no inputs": r"^the request has no inputs; model",
        "no state": r"^model '.*' cannot go on from a state",
        "unknown input": r"^unknown input '.*'; model",
        "repeated input": r"^input '.*' was sent \d+ times; model",
        "missing input": r"^input '.*' is missing; model",
        "raw contents": r"^raw_input_contents has \d+ entries for \d+ inputs",
        "datatype": r"^input '.*' has datatype '.*'; expected (FP32|INT64)$",
        "rank": r"^input '.*' has shape \[.*\] of rank \d+; expected",
        "nothing in it": r"^input '.*' has shape \[.*\] with nothing in it; expected",
        "axis": r"^input '.*' has shape \[[-\d, ]*\]; expected \[",
        "both contents": r"^input '.*' has typed contents beside raw_input_contents",
        "part of a value": r"^input '.*' has \d+ raw bytes, no whole number of",
        "values": r"^input '.*' has \d+ values \(\d+ bytes\); its shape \[.*\] needs \d+",
        "rows differ": r"^inputs differ in rows: ",
        "steps differ": r"^inputs differ in steps: ",
        "rows": r"^the request has \d+ rows; this model takes at most \d+ \(max_request_rows",
        "steps": r"^the request has \d+ steps; this model takes at most \d+ \(max_steps",
        "lengths": r"^input 'lengths' has values from -?\d+ to -?\d+; expected 1 to \d+",
        "lengths differ": r"^model 'alike' takes rows of one length per request",
        "not finite": r"^input '.*' holds (nan|-?inf) at \[.*\]; expected finite numbers",
        "vocabulary": r"^input 'tokens' holds -?\d+ at \[.*\]; expected 0 to 2, the indices",
        "calibrated range": r"^input 'x' has values from \S+ to \S+; this INT8 model was calibrated on",
        "no output": r"^model '.*' has no output '.*'; its outputs are",
        "state: form": r"^input 'state' is .* \[.*\]; expected UINT8 \[rows, 48\]",
        "state: typed": r"^input 'state' has typed contents; send all inputs as raw_input_contents",
        "state: bytes": r"^input 'state' has \d+ bytes; its shape \[.*\] needs -?\d+",
        "state: other model": r"^input 'state' does not come from model 'causal' version 1",
        "state: rows": r"^input 'state' has \d+ rows; expected \d+, as the other inputs have",
        "state: not finite": r"^input 'state' holds values that are not finite; send the bytes as they came",
    }.items()
}


def name_of(error: ServingError) -> str:
    """Return which one it is.

    Raises:
        AssertionError: none of these: a fault that looks like a refusal, or a new one, which belongs here.
    """
    for name, pattern in REFUSALS.items():
        if pattern.search(str(error)):
            return name
    raise AssertionError(f"no refusal that is known: {type(error).__name__}: {str(error)[:500]}")
