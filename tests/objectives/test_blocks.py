"""The decoders' blocks, against torch's own attention and written-out sums."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.objectives.blocks import Attention, Block

BATCH, QUERIES, KEYS, WIDTH, OTHER_WIDTH = 3, 5, 7, 128, 24  # two heads of 64
CAUSAL = torch.ones(QUERIES, QUERIES, dtype=torch.bool).tril()


def made(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    block = Block(WIDTH, OTHER_WIDTH)
    for parameter in block.parameters():  # norms and biases count as well
        nn.init.normal_(parameter, std=0.2)
    return block


def by_torch(attention: Attention, tokens: Tensor, looked_at: Tensor, allowed: Tensor | None) -> Tensor:
    key, value = attention.key_value.weight.chunk(2)
    answer, _ = F.multi_head_attention_forward(
        *(part.transpose(0, 1) for part in (tokens, looked_at, looked_at)),
        embed_dim_to_check=WIDTH,
        num_heads=2,
        in_proj_weight=None,
        in_proj_bias=torch.cat((attention.query.bias, attention.key_value.bias)),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.proj.weight,
        out_proj_bias=attention.proj.bias,
        attn_mask=None if allowed is None else ~allowed,
        use_separate_proj_weight=True,
        q_proj_weight=attention.query.weight,
        k_proj_weight=key,
        v_proj_weight=value,
    )
    return answer.transpose(0, 1)


@pytest.mark.parametrize("allowed", [None, CAUSAL])
@pytest.mark.parametrize("looks", [False, True])
def test_block_is_the_sum_of_its_parts(block: Block, allowed: Tensor | None, looks: bool) -> None:
    tokens, other = made(BATCH, QUERIES, WIDTH, seed=1), made(BATCH, KEYS, OTHER_WIDTH, seed=2)
    normed = block.norm(tokens)
    expected = tokens + by_torch(block.attention, normed, normed, allowed)
    if looks:
        expected = expected + by_torch(block.other_attention, block.other_norm(expected), other, None)
    norm, up, _, down = block.mlp
    expected = expected + down(F.gelu(up(norm(expected))))
    torch.testing.assert_close(
        block(tokens, allowed, other if looks else None), expected, rtol=1e-4, atol=1e-4
    )
