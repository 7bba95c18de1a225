"""Encode, prompt, decode; and what frozen means."""

import pytest
import torch

from autosam.config import PromptSettings
from autosam.errors import CheckpointError, ModelError
from autosam.models.autosam import TRAINED_PARTS, PromptedSam
from autosam.models.prompt_network import build_prompt_network
from autosam.models.sam import load_sam

SETTINGS = PromptSettings(network="hardnet39ds", side=32)


def prompter(sam):
    return build_prompt_network(SETTINGS, grid=sam.grid, channels=sam.channels)


@pytest.fixture(params=sorted(TRAINED_PARTS))
def network(request, tiny_sam):
    prompts = "prompter" in TRAINED_PARTS[request.param]
    return PromptedSam(tiny_sam, prompter(tiny_sam) if prompts else None, method=request.param)


@pytest.fixture
def autosam(tiny_sam):
    return PromptedSam(tiny_sam, prompter(tiny_sam)).eval()


def take_step(network):
    """Forward, back and one step of what trains; where nothing does, only forward."""
    loss = network(torch.randn(2, 3, 64, 64)).square().mean()
    parameters = list(network.trained_parameters())
    if parameters:
        loss.backward()
        torch.optim.SGD(parameters, lr=0.1).step()


def test_only_the_parts_of_the_method_train(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    take_step(network)
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = {
        "prompter": "prompter.",
        "mask_decoder": "sam.mask_decoder.",
        "image_encoder": "sam.image_encoder.",
    }
    trains = tuple(allowed[part] for part in TRAINED_PARTS[network.method])
    assert bool(changed) == bool(trains)
    assert all(name.startswith(trains) for name in changed)
    for part in trains:
        assert any(name.startswith(part) for name in changed), part


def test_every_parameter_given_to_the_optimiser_gets_a_gradient(network):
    network.train()
    take_step(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    without = [names[id(p)] for p in network.trained_parameters() if p.grad is None]
    assert without == []


def test_frozen_parts_get_no_gradient_and_stay_in_evaluation_mode(autosam):
    autosam.train()
    autosam(torch.randn(2, 3, 64, 64)).sum().backward()
    assert not any(parameter.grad is not None for parameter in autosam.sam.parameters())
    assert not any(module.training for module in autosam.sam.modules())
    assert autosam.prompter.training


def test_the_gradient_passes_through_the_frozen_decoder_to_the_prompter(autosam):
    autosam.train()
    autosam(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in autosam.prompter.parameters()
               if p.dim() > 1)  # fmt: skip


def test_an_embedding_from_a_cache_gives_what_encoding_gives(autosam):
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        live = autosam(pixels)
        embedding = autosam.sam.embed(pixels)
        prompt_pixels = torch.nn.functional.interpolate(
            pixels, size=(32, 32), mode="bilinear", antialias=True
        )
        cached = autosam(image_embedding=embedding, prompt_pixels=prompt_pixels)
    torch.testing.assert_close(cached, live)


def test_images_in_a_batch_do_not_affect_each_other(network):
    network.eval()
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        alone = torch.cat([network(one[None]) for one in pixels])
        torch.testing.assert_close(network(pixels), alone, atol=2e-5, rtol=1e-4)


def test_the_dense_prompt_takes_the_place_of_the_no_mask_embedding(autosam):
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        embedding = autosam.sam.embed(pixels)
        small = torch.nn.functional.interpolate(
            pixels, size=(32, 32), mode="bilinear", antialias=True
        )
        by_hand = autosam.sam.decode(embedding, autosam.prompter(small))
        torch.testing.assert_close(autosam(pixels), by_hand)


def test_the_null_prompt_is_the_answer_of_plain_sam(tiny_sam_folder):
    from transformers import SamModel

    network = PromptedSam(load_sam(str(tiny_sam_folder)), None, method="decoder-null").eval()
    plain = SamModel.from_pretrained(tiny_sam_folder).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        dense = plain.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(2, -1, 4, 4)
        masks = plain.mask_decoder(
            image_embeddings=plain.vision_encoder(pixels).last_hidden_state,
            image_positional_embeddings=plain.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )[0]
        # Ours uses Meta's LayerNorm epsilon of 1e-5, transformers' two-way blocks 1e-6.
        torch.testing.assert_close(network(pixels), masks[:, 0], atol=2e-3, rtol=1e-3)


def test_recomputing_the_decoder_changes_no_gradient(tiny_sam_folder):
    gradients = []
    for checkpointed in (False, True):
        sam = load_sam(str(tiny_sam_folder))
        torch.manual_seed(3)
        network = PromptedSam(sam, prompter(sam), checkpoint_decoder=checkpointed).train()
        network(torch.ones(2, 3, 64, 64)).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.trained_parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_trained_weights_go_round(network, tiny_sam_folder):
    sam = load_sam(str(tiny_sam_folder))
    other = PromptedSam(
        sam, None if network.prompter is None else prompter(sam), method=network.method
    )
    other.load_trained_state(network.trained_state())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other.eval()(pixels), network.eval()(pixels))


def test_weights_of_another_network_are_refused(autosam):
    state = autosam.trained_state()
    first = next(iter(state))
    with pytest.raises(CheckpointError, match="1 missing"):
        autosam.load_trained_state({k: v for k, v in state.items() if k != first})
    with pytest.raises(CheckpointError, match="1 left over"):
        autosam.load_trained_state({**state, "prompter.more": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 of another shape"):
        autosam.load_trained_state({**state, first: torch.zeros(1)})


def test_methods_that_do_not_fit_their_parts_are_refused(tiny_sam):
    with pytest.raises(ModelError, match="Did you mean 'autosam'"):
        PromptedSam(tiny_sam, None, method="autosm")
    with pytest.raises(ModelError, match="'autosam' must have a prompt network"):
        PromptedSam(tiny_sam, None)
    with pytest.raises(ModelError, match="must not have a prompt network"):
        PromptedSam(tiny_sam, prompter(tiny_sam), method="decoder-null")


def test_calls_without_what_they_need_are_refused(autosam):
    with pytest.raises(ModelError, match="pixels must be given"):
        autosam()
