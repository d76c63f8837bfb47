"""The parameters of a request: how long it may take, and how urgent it is."""

import pytest

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.wire import parameters


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (oip.InferParameter(int64_param=1500), 1_500_000),
        (oip.InferParameter(uint64_param=2), 2_000),
        (oip.InferParameter(int64_param=0), None),
    ],
)
def test_the_timeout_parameter_is_in_microseconds_and_zero_means_none(
    parameter: oip.InferParameter, expected: int | None
) -> None:
    request = oip.ModelInferRequest(parameters={"timeout": parameter})

    assert parameters.timeout_ns(request) == expected


@pytest.mark.parametrize(
    "parameter",
    [oip.InferParameter(string_param="1s"), oip.InferParameter(int64_param=-1), oip.InferParameter(uint64_param=2**63)],
)
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(parameter: oip.InferParameter) -> None:
    with pytest.raises(InvalidRequest, match="'timeout' must be a whole number of microseconds"):
        parameters.timeout_ns(oip.ModelInferRequest(parameters={"timeout": parameter}))


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (oip.InferParameter(uint64_param=1), 1),
        (oip.InferParameter(int64_param=9), 9),
        (oip.InferParameter(uint64_param=0), None),
    ],
)
def test_the_priority_is_one_to_nine_and_zero_means_the_models_default(
    parameter: oip.InferParameter, expected: int | None
) -> None:
    assert parameters.priority(oip.ModelInferRequest(parameters={"priority": parameter})) == expected
    assert parameters.priority(oip.ModelInferRequest()) is None


@pytest.mark.parametrize(
    "parameter",
    [
        oip.InferParameter(uint64_param=10),
        oip.InferParameter(int64_param=-1),
        oip.InferParameter(string_param="high"),
        oip.InferParameter(bool_param=True),
        oip.InferParameter(double_param=1.0),
    ],
)
def test_a_priority_that_is_no_number_from_0_to_9_is_refused(parameter: oip.InferParameter) -> None:
    with pytest.raises(InvalidRequest, match=r"'priority' must be a whole number, 1 the most urgent .* to 9"):
        parameters.priority(oip.ModelInferRequest(parameters={"priority": parameter}))
