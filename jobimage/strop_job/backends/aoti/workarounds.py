"""What torch 2.15 and torchao 0.18 do wrong with a dynamic batch, put right while a program is compiled. Imports torch.

Each is a context manager around the compiler, in a process that does nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def any_batch_to_convolutions() -> Iterator[None]:
    """Keeps torch from narrowing a dynamic batch when it meets a convolution.

    To predict a memory layout it asks which library will convolve; the answer compares the batch with 16, and an engine
    tuned for 8 would then be compiled for 2 to 15. Inductor hands convolutions on a CPU to oneDNN whatever their batch.
    """
    select = torch._C._select_conv_backend

    def selected(images: Any, *arguments: Any, **options: Any) -> Any:
        if images.device.type == "cpu" and any(isinstance(size, torch.SymInt) for size in images.shape):
            return torch._C._ConvBackend.Mkldnn
        return select(images, *arguments, **options)

    torch._C._select_conv_backend = selected
    try:
        yield
    finally:
        torch._C._select_conv_backend = select


@contextmanager
def weights_packed_for_the_tuned_sizes() -> Iterator[None]:
    """Packs the weights of integer convolutions for the sizes the program was exported at.

    With a dynamic batch torchao tells oneDNN no shape at all; the blocks it then chooses do not suit the kernel, which
    brings all weights into order again in every call. At another batch the packed weights are right as well.
    """
    from torchao.quantization.pt2e.inductor_passes import x86

    symbolic, call_function = x86.has_free_symbols, torch.fx.Graph.call_function

    def tuned(graph: torch.fx.Graph, target: Any, args: Any = None, *more: Any, **named: Any) -> Any:
        if "prepack" in str(target) and args and isinstance(args[-1], torch.Size):
            args = (*args[:-1], _hinted(args[-1], convolution="qconv" in str(target)))
        return call_function(graph, target, args, *more, **named)

    x86.has_free_symbols = lambda shape: False
    torch.fx.Graph.call_function = tuned
    try:
        yield
    finally:
        x86.has_free_symbols, torch.fx.Graph.call_function = symbolic, call_function


def _hinted(shape: torch.Size, *, convolution: bool) -> list[int] | None:
    """The sizes of the example where a size is dynamic; None, as torchao has it, for anything but a convolution."""
    if not any(isinstance(size, torch.SymInt) for size in shape):
        return list(shape)
    return [size.node.hint if isinstance(size, torch.SymInt) else size for size in shape] if convolution else None
