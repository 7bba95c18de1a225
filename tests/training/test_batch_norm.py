"""The normalisation itself, in two processes with half a batch each."""

import pytest
import torch
import torch.distributed
from torch import nn

from autosam.training.batch_norm import shared_batch_norm

SHAPE = (6, 4, 5, 3)


def _layer(kind):
    torch.manual_seed(1)
    if kind == "timm":
        from timm.layers import BatchNormAct2d

        layer = BatchNormAct2d(4)
    else:
        layer = nn.BatchNorm2d(4, momentum=None if kind == "average" else 0.1)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.uniform_(-1, 1)
    return layer


def _pictures():
    """Far from zero, where the difference of squares would cancel."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)) * 0.1 + 30


def _passes(layer, pictures, weights):
    """Two training passes and one in eval mode; gradients of the first."""
    pictures = pictures.clone().requires_grad_()
    first = layer(pictures)
    (first * weights).sum().backward()
    layer(pictures.detach() * 1.5)
    layer.eval()
    with torch.no_grad():
        judged = layer(pictures)
    return [first.detach(), pictures.grad, layer.weight.grad, layer.bias.grad, judged,
            layer.running_mean, layer.running_var, layer.num_batches_tracked]  # fmt: skip


def _half(rank, port, kind, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    layer, share = nn.Sequential(_layer(kind)), slice(rank * 3, rank * 3 + 3)
    weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    with shared_batch_norm([layer]):
        found = _passes(layer[0], _pictures()[share], weights[share])
    assert "forward" not in vars(layer[0])
    results.put((rank, [tensor.detach().numpy() for tensor in found]))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["plain", "average", "timm"])
def test_two_halves_are_normalised_as_the_whole(kind, forking, free_port):
    """Values, gradients and running statistics; torch's own layer on all pictures is the judge."""
    results, port = forking.Queue(), free_port()
    halves = [forking.Process(target=_half, args=(r, port, kind, results)) for r in range(2)]
    for process in halves:
        process.start()
    found = dict(results.get(timeout=60) for _ in halves)
    for process in halves:
        process.join()
    first, second = ([torch.from_numpy(array) for array in found[rank]] for rank in range(2))
    weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    whole = _passes(_layer(kind), _pictures(), weights)
    joined = [torch.cat([a, b]) for a, b in zip(first[:2], second[:2], strict=True)]
    joined += [first[2] + second[2], first[3] + second[3], torch.cat([first[4], second[4]])]
    joined += first[5:]
    for ours, theirs in zip(joined, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)
    assert all(torch.equal(a, b) for a, b in zip(first[5:], second[5:], strict=True))
