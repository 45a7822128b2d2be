"""The steps of `pointwise` as Triton kernels for a GPU, with LoRA's second product done on the way.

Each reads and writes memory once. Where a linear map's output is read anyway (by the rotation, the
activation, the residual sum), `low B^T` of its adapters is added there, in registers, so that the adapters
cost no pass over the wide products of their own. All arithmetic is float32. The functions have the
arguments of their plain counterparts in `pointwise`, which are also their oracle.

Rows differ from pack to pack: a kernel is not compiled anew because there are a multiple of 16, or one.
"""

from tenbin.decoder.activation_kernels import activation, activation_backward_, add
from tenbin.decoder.fp8_kernels import quantized, transposed
from tenbin.decoder.head_kernels import finish_heads_, heads_gradient
from tenbin.decoder.loss_kernels import cross_entropy_
from tenbin.decoder.low_gradient_kernels import low_gradients
from tenbin.decoder.norm_kernels import norm, norm_backward, norm_quantized

__all__ = [
    "activation",
    "activation_backward_",
    "add",
    "cross_entropy_",
    "finish_heads_",
    "heads_gradient",
    "low_gradients",
    "norm",
    "norm_backward",
    "norm_quantized",
    "quantized",
    "transposed",
]
