"""The networks, as plain PyTorch modules; serving needs none of this, only their ONNX exports."""
