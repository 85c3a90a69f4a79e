"""What computes the networks at inference: TensorFlow, which is the reference, ONNX Runtime or OpenVINO."""
