"""Forward and backward of a frozen decoder with LoRA adapters, written out; what is kept is chosen."""
