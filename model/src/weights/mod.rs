//! Weights on disk: PyTorch `model.pt` and `.safetensors`, mapped into memory and checked.
