"""INT8 and FP16 versions, made from a proven FP32 one."""
