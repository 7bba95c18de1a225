"""The stages that make river-nano: what is written is read again, averaged, and given a fair threshold."""

import pytest
import torch

from autosam.models.embedded import EMBEDDED_FOLDERS
from autosam.models.sam import load_sam
from benchmarks.river_nano.objects import ObjectBatch
from benchmarks.river_nano.promptable import interactive_loss
from benchmarks.river_nano.refine import averaged
from benchmarks.river_nano.small_sam import load_small_sam, save_small_sam
from benchmarks.river_nano.timed_training import TimedTraining

SHIPPED = EMBEDDED_FOLDERS["river-nano"] / "sam"


@pytest.fixture(scope="module")
def small_sam():
    return load_small_sam(SHIPPED).eval()


def test_the_small_sam_that_goes_on_training_is_the_one_that_was_shipped(small_sam):
    pixels = torch.randn((1, 3, 512, 512), generator=torch.Generator().manual_seed(0))
    shipped = load_sam("river-nano")
    with torch.no_grad():
        expected = shipped.embed(pixels)
        found = small_sam.embed(pixels)
        assert found.shape == expected.shape == (1, 256, 32, 32)
        assert torch.allclose(found, expected, atol=1e-4)
        mask = torch.randn((1, 1, 128, 128), generator=torch.Generator().manual_seed(1))
        logits, _ = small_sam.decode(
            found, points=torch.zeros((1, 0, 2)), labels=torch.zeros((1, 0), dtype=torch.long),
            boxes=None, mask=mask, multimask=False,
        )  # fmt: skip
        assert torch.allclose(
            logits, shipped.decode(expected, shipped.encode_masks(mask)), atol=1e-3
        )


def test_a_small_sam_is_written_as_it_was_read(small_sam, tmp_path):
    save_small_sam(small_sam, tmp_path)
    again = load_small_sam(tmp_path)
    for (name, before), after in zip(
        small_sam.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert name.startswith("water_head") or torch.equal(before, after), name


def test_averaging_lies_between_what_was_learnt_and_what_was_begun_with():
    after, before = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    learnt, begun = after.weight.detach().clone(), before.weight.detach().clone()
    averaged(after, before, 0.75)
    assert torch.allclose(after.weight, 0.75 * learnt + 0.25 * begun)
    averaged(after, before, 1.0)
    assert torch.allclose(after.weight, 0.75 * learnt + 0.25 * begun)


class Slope(TimedTraining):
    """A weight that goes down by its own gradient of 1."""

    def losses(self, progress):
        assert 0 <= progress < 1
        return {"up": self.module.weight.sum()}


def _slope(out):
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    optimiser = torch.optim.SGD([{"params": [*module.parameters()], "peak": 0.5}])
    return Slope(module, optimiser, out, told_every=1)


def test_a_timed_training_goes_on_where_it_was_and_ends_when_its_time_is_over(tmp_path):
    first = _slope(tmp_path)
    first.run(minutes=0.001)
    assert first.step > 0
    assert first.module.weight.item() < 1
    assert [row["step"] for row in first.history] == [*range(1, first.step + 1)]
    again = _slope(tmp_path)
    assert (again.step, again.seconds, again.history) == (first.step, first.seconds, first.history)
    assert torch.equal(again.module.weight, first.module.weight)
    again.run(minutes=0.001)
    assert again.step == first.step
    again.run(minutes=0.002)
    assert again.step > first.step


class Answers:
    """A decoder of one number, which notes whether it was asked to learn."""

    def __init__(self):
        self.bias = torch.zeros((), requires_grad=True)
        self.learnt = []

    def decode(self, embedding, *, points, labels, boxes, mask, multimask):
        self.learnt.append((points.shape[1], torch.is_grad_enabled()))
        shape = (len(embedding), 3 if multimask else 1)
        return self.bias.expand(*shape, 16, 16), self.bias.expand(*shape)


def test_the_first_and_the_last_prompts_teach_and_those_between_only_go_on():
    target = torch.zeros((2, 1, 16, 16))
    target[:, :, 4:12, 4:12] = 1
    nothing = torch.empty(0)
    batch = ObjectBatch(
        pixels=nothing, water=nothing, labelled=nothing, targets=target,
        counted=torch.ones_like(target), owner=torch.tensor([0, 0]),
    )  # fmt: skip
    lengths = set()
    for seed in range(12):
        sam, generator = Answers(), torch.Generator().manual_seed(seed)
        loss = interactive_loss(sam, torch.zeros((1, 2, 4, 4)), batch, generator, progress=1.0)
        loss.backward()
        assert sam.bias.grad is not None
        starts = [place for place, (count, _) in enumerate(sam.learnt) if count < 2][:1] + [
            place
            for place in range(1, len(sam.learnt))
            if sam.learnt[place][0] <= sam.learnt[place - 1][0]
        ]
        for start, end in zip(starts, [*starts[1:], len(sam.learnt)], strict=True):
            learnt = [learns for _, learns in sam.learnt[start:end]]
            assert learnt == [True, *[False] * (len(learnt) - 3), True, True]
            lengths.add(len(learnt))
    assert lengths == {3, 4, 5, 6}
