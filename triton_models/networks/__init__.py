"""The networks as PyTorch modules. Serving needs only their ONNX exports."""
