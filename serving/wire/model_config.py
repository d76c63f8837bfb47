"""How a model version is served, in the form of Triton's model configuration, which its tools read."""

from serving._proto import open_inference_pb2 as oip
from serving.policy import Latest, Policy
from serving.repository import Model
from serving.wire import outputs, parameters

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MICROSECONDS = 1000
"""Per millisecond."""


def model_config(model: Model) -> oip.ModelConfig:
    """Describe a version and its policy. Shapes are without the axis of rows, as Triton's are."""
    manifest, policy = model.manifest, model.policy
    config = oip.ModelConfig(
        name=manifest.name,
        platform=PLATFORM,
        backend=BACKEND,
        default_model_filename=manifest.file.name,
        max_batch_size=policy.max_request_rows,
        version_policy=_version_policy(policy),
        instance_group=[
            oip.ModelInstanceGroup(name=manifest.name, count=policy.instances, kind=oip.ModelInstanceGroup.KIND_AUTO)
        ],
        dynamic_batching=oip.ModelDynamicBatching(
            priority_levels=parameters.LOWEST_PRIORITY,
            default_priority_level=policy.default_priority,
            default_queue_policy=oip.ModelQueuePolicy(
                default_timeout_microseconds=(policy.default_timeout_ms or 0) * MICROSECONDS,
                allow_timeout_override=True,
                max_queue_size=policy.max_queue_rows,
            ),
        ),
    )
    for tensor in manifest.inputs:
        config.input.add(name=tensor.name, data_type=_data_type(tensor), dims=outputs.wire_shape(tensor)[1:])
    for output in outputs.Offer(manifest).all:
        config.output.add(name=output.name, data_type=_data_type(output), dims=outputs.wire_shape(output)[1:])
    for key, value in policy.model_dump(mode="json").items():
        config.parameters[key].string_value = "none" if value is None else str(value)
    return config


def _data_type(output: outputs.Output) -> oip.DataType.ValueType:
    name = outputs.wire_datatype(output)
    return oip.DataType.Value("TYPE_STRING" if name == "BYTES" else f"TYPE_{name}")


def _version_policy(policy: Policy) -> oip.ModelVersionPolicy:
    if policy.versions == "all":
        return oip.ModelVersionPolicy(all=oip.ModelVersionPolicy.All())
    if isinstance(policy.versions, Latest):
        return oip.ModelVersionPolicy(latest=oip.ModelVersionPolicy.Latest(num_versions=policy.versions.latest))
    return oip.ModelVersionPolicy(specific=oip.ModelVersionPolicy.Specific(versions=policy.versions))
