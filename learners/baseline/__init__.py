"""The baseline: a full retrain in torch, and the ONNX graph that is served of it."""
