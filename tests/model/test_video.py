"""The video tower against a slow one written from the formulas (Frozen in Time, methods of MAC section 3.1)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import VideoTower
from mac_ray.model import video
from mac_ray.model.positions import resize_grid
from mac_ray.model.video import DividedAttention, DividedVideoTransformer, attend, grow_towers

IMAGE_SIZE, PATCH, WIDTH, HEADS = 12, 4, 8, 2
PATCHES = (IMAGE_SIZE // PATCH) ** 2


def tower_of(seed: int = 0, spread: float | None = 0.5, **section: Any) -> DividedVideoTransformer:
    """`spread`: deviation of all weights, norms and embeddings included; None: as built."""
    sizes = {"patch_size": PATCH, "width": WIDTH, "depth": 2, "num_heads": HEADS, "max_frames": 4}
    torch.manual_seed(seed)
    tower = DividedVideoTransformer(VideoTower(**(sizes | section)), IMAGE_SIZE)
    if spread is not None:
        for parameter in tower.parameters():
            nn.init.normal_(parameter, std=spread)
    return tower


def clips_of(frames: int, batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)


def random_mask(frames: int, kept: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Other patches in every frame, in random order: patch p of frame f is number f N + p."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(PATCHES, generator=generator)[:kept] for _ in range(batch * frames)]
    return numbered(torch.stack(rows).view(batch, frames, kept))


def numbered(patches: Tensor) -> Tensor:
    """Patches (B, F, V) of each frame in turn -> their numbers in the clip."""
    return patches + PATCHES * torch.arange(patches.shape[1])[:, None]


# ---------------------------------------------------------------- the slow tower


class SlowTower:
    """One clip at a time, one query at a time, in double precision, from the tower's named weights."""

    def __init__(self, tower: DividedVideoTransformer, residual: str) -> None:
        self.weights = {name: weight.detach().double() for name, weight in tower.state_dict().items()}
        self.depth = len(tower.blocks)
        self.residual = residual

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        scaled = centred / (centred.square().mean() + 1e-6).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name: str, rows: list[Tensor], seen_by: list[list[int]]) -> list[Tensor]:
        size = WIDTH // HEADS
        projected = [self.linear(f"{name}.qkv", row) for row in rows]
        attended = []
        for position, seen in enumerate(seen_by):
            heads = []
            for head in range(HEADS):
                start = head * size
                query = projected[position][start : start + size]
                keys = [projected[other][WIDTH + start : WIDTH + start + size] for other in seen]
                values = [projected[other][2 * WIDTH + start : 2 * WIDTH + start + size] for other in seen]
                scores = torch.stack([query @ key for key in keys]) * size**-0.5
                weights = scores.exp() / scores.exp().sum()
                heads.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
            attended.append(self.linear(f"{name}.proj", torch.cat(heads)))
        return attended

    def embedded(self, clip: Tensor, visible: list[list[int]]) -> list[Tensor]:
        rows = [self.weights["cls_token"][0, 0] + self.weights["pos_embed"][0, 0]]
        columns = IMAGE_SIZE // PATCH
        for numbers in visible:
            for number in numbers:
                frame, patch = divmod(number, PATCHES)
                top, left = patch // columns * PATCH, patch % columns * PATCH
                pixels = [
                    clip[frame, channel, top + y, left + x]
                    for channel in range(3)
                    for y in range(PATCH)
                    for x in range(PATCH)
                ]
                rows.append(
                    self.linear("patch_embed", torch.stack(pixels))
                    + self.weights["pos_embed"][0, 1 + patch]
                    + self.weights["temporal_embed"][0, frame]
                )
        return rows

    def __call__(self, clip: Tensor, visible: list[list[int]]) -> Tensor:
        frames, kept = len(visible), len(visible[0])
        place = {(f, k): 1 + f * kept + k for f in range(frames) for k in range(kept)}
        everything = list(range(1 + frames * kept))
        in_time, in_space = [everything], [everything]  # the class token's
        for f in range(frames):
            for k in range(kept):
                in_time.append([0] + [place[other, k] for other in range(frames)])
                in_space.append([0] + [place[f, other] for other in range(kept)])
        rows = self.embedded(clip.double(), visible)
        for number in range(self.depth):
            block = f"blocks.{number}"
            branch = self.attention(
                f"{block}.timeattn", [self.norm(f"{block}.norm3", row) for row in rows], in_time
            )
            timed = [row + change for row, change in zip(rows, branch, strict=True)]
            branch = self.attention(
                f"{block}.attn", [self.norm(f"{block}.norm1", row) for row in timed], in_space
            )
            base = rows if self.residual == "frozen" else timed
            rows = [row + change for row, change in zip(base, branch, strict=True)]
            rows = [
                row
                + self.linear(
                    f"{block}.mlp.fc2",
                    F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", row))),
                )
                for row in rows
            ]
        return torch.stack([self.norm("norm", row) for row in rows])


@pytest.fixture(params=["joint", "in groups"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips as short as these are seen through one attention, longer ones group by group."""
    monkeypatch.setattr(video, "JOINT_UP_TO", 100 if request.param == "joint" else 0)


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize("residual", ["frozen", "timesformer"])
@pytest.mark.parametrize(("frames", "kept"), [(3, 4), (4, PATCHES), (2, 1), (1, 4)])
def test_tower_of_random_weights_and_mask_matches_explicit_loops(residual: str, frames: int, kept: int):
    tower = tower_of(residual=residual)
    clips, visible = clips_of(frames), random_mask(frames, kept)
    slow = SlowTower(tower, residual)
    expected = torch.stack([slow(clip, mask.tolist()) for clip, mask in zip(clips, visible, strict=True)])
    torch.testing.assert_close(tower(clips, visible).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize("frames", [1, 3])
def test_tower_without_mask_matches_explicit_loops(frames: int):
    tower = tower_of()
    clips = clips_of(frames)
    slow = SlowTower(tower, "frozen")
    everything = torch.arange(frames * PATCHES).view(frames, PATCHES).tolist()
    expected = torch.stack([slow(clip, everything) for clip in clips])
    torch.testing.assert_close(tower(clips).double(), expected, rtol=1e-5, atol=1e-5)


def test_tower_with_every_patch_visible_in_raster_order_is_the_tower_without_mask():
    tower = tower_of()
    clips = clips_of(3)
    everything = torch.arange(3 * PATCHES).view(3, PATCHES).expand(2, -1, -1)
    torch.testing.assert_close(tower(clips, everything), tower(clips))


def test_masked_forward_equals_embedding_everything_adding_positions_then_gathering():
    tower = tower_of()
    clips, visible = clips_of(3), random_mask(3, 4)
    weight = tower.patch_embed.weight.view(WIDTH, 3, PATCH, PATCH)  # as the convolution that it stands for
    maps = F.conv2d(clips.flatten(0, 1), weight, tower.patch_embed.bias, stride=PATCH)
    patches = maps.flatten(2).transpose(1, 2).reshape(2, 3, PATCHES, WIDTH)
    patches = patches + tower.pos_embed[:, None, 1:] + tower.temporal_embed[:, :3, None]
    survivors = torch.stack(
        [clip.flatten(0, 1)[own.flatten()] for clip, own in zip(patches, visible, strict=True)]
    )
    tokens = torch.cat([(tower.cls_token + tower.pos_embed[:, :1]).expand(2, -1, -1), survivors], dim=1)
    for block in tower.blocks:
        tokens = block(tokens, 3)
    torch.testing.assert_close(tower(clips, visible), tower.norm(tokens), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- who meets whom


def test_tube_in_another_order_gives_the_same_clip():
    tower = tower_of()
    clips = clips_of(3)
    tube = numbered(torch.randperm(PATCHES)[:5].expand(2, 3, -1))
    shuffle = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(tower(clips, tube)[:, 0], tower(clips, tube[..., shuffle])[:, 0])


def test_survivors_in_another_order_within_one_frame_change_the_clip_through_time():
    tower = tower_of()
    clips, visible = clips_of(3), random_mask(3, 5)
    shuffled = visible.clone()
    shuffled[:, 1] = visible[:, 1][:, [3, 0, 4, 1, 2]]
    assert (tower(clips, visible)[:, 0] - tower(clips, shuffled)[:, 0]).abs().max() > 1e-3
    for block in tower.blocks:  # without the temporal branch there is no pairing to change
        nn.init.zeros_(block.timeattn.proj.weight)
    torch.testing.assert_close(tower(clips, visible)[:, 0], tower(clips, shuffled)[:, 0])


def test_one_frame_in_any_order_gives_the_same_clip():
    tower = tower_of()
    clips, visible = clips_of(1), random_mask(1, 5)
    torch.testing.assert_close(tower(clips, visible)[:, 0], tower(clips, visible.flip(-1))[:, 0])


def test_hidden_patches_do_not_reach_the_output():
    tower = tower_of()
    clips = clips_of(2)
    visible = numbered(torch.tensor([0, 5, 7]).expand(2, 2, -1))
    changed = clips.clone()
    changed[..., 4:8, 0:4] = 100.0  # patch 3 of a 3 x 3 grid
    assert torch.equal(tower(clips, visible), tower(changed, visible))
    assert not torch.equal(tower(clips), tower(changed))


def test_dropped_frames_leave_the_others_their_places_in_time():
    tower = tower_of()
    clips, visible = clips_of(4), random_mask(4, 5)[:, [1, 3]]
    slow = SlowTower(tower, "frozen")
    expected = torch.stack([slow(clip, mask.tolist()) for clip, mask in zip(clips, visible, strict=True)])
    torch.testing.assert_close(tower(clips, visible).double(), expected, rtol=1e-5, atol=1e-5)
    changed = clips.clone()
    changed[:, [0, 2]] = 100.0
    assert torch.equal(tower(clips, visible), tower(changed, visible))


def test_smaller_clips_are_seen_by_a_tower_of_their_size_with_stretched_positions():
    tower = tower_of()
    small = DividedVideoTransformer(
        VideoTower(patch_size=PATCH, width=WIDTH, depth=2, num_heads=HEADS, max_frames=4), 2 * PATCH
    )
    weights = tower.state_dict()
    weights["pos_embed"] = resize_grid(weights["pos_embed"], (2, 2), (3, 3))
    small.load_state_dict(weights)
    clips = clips_of(3)[..., : 2 * PATCH, : 2 * PATCH]
    torch.testing.assert_close(tower(clips), small(clips))
    tower(clips).sum().backward()
    assert (tower.pos_embed.grad.abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize("residual", ["frozen", "timesformer"])
def test_class_attention_is_the_last_spatial_attention_by_explicit_loops(residual: str):
    tower = tower_of(residual=residual)
    clips = clips_of(2, batch=1)
    found = tower.class_attention(clips)
    assert found.shape == (1, 2, PATCHES)
    slow, seen = SlowTower(tower, residual), []
    original = slow.attention

    def attention(name: str, rows: list[Tensor], seen_by: list[list[int]]) -> list[Tensor]:
        if name == "blocks.1.attn":
            projected = [slow.linear(f"{name}.qkv", row) for row in rows]
            size = WIDTH // HEADS
            shares = torch.zeros(len(rows), dtype=torch.float64)
            for start in range(0, WIDTH, size):
                query = projected[0][start : start + size]
                keys = [row[WIDTH + start : WIDTH + start + size] for row in projected]
                scores = torch.stack([query @ key for key in keys]) * size**-0.5
                shares += scores.exp() / scores.exp().sum() / HEADS
            seen.append(shares[1:])
        return original(name, rows, seen_by)

    slow.attention = attention  # type: ignore[method-assign]
    slow(clips[0], torch.arange(2 * PATCHES).view(2, PATCHES).tolist())
    torch.testing.assert_close(found.flatten().double(), seen[0], rtol=1e-5, atol=1e-6)


def test_time_matters_to_the_same_pictures():
    tower = tower_of()
    clips = clips_of(4)
    assert (tower(clips)[:, 0] - tower(clips.flip(1))[:, 0]).abs().max() > 1e-3


def test_more_frames_than_the_tower_has_positions_for_are_refused_by_number():
    with pytest.raises(ValueError, match=r"5 frames.*max_frames is 4"):
        tower_of()(clips_of(5))


# ---------------------------------------------------------------- more frames than before


def test_rows_are_kept_as_they_began_unless_told_otherwise():
    tower = tower_of()
    before = tower.temporal_embed.detach().clone()
    tower.grow(1)
    tower.grow(4)
    assert torch.equal(tower.temporal_embed, before)
    assert torch.equal(tower.times(3), before[:, :3])


def test_rows_beyond_the_trained_ones_become_zeros():
    tower = tower_of(inflate="zeros")
    before = tower.temporal_embed.detach().clone()
    tower.grow(2)
    assert torch.equal(tower.temporal_embed, before)  # nothing is known yet that could be inflated
    tower.grow(4)
    assert torch.equal(tower.temporal_embed[:, :2], before[:, :2])
    assert not tower.temporal_embed[:, 2:].any()


@pytest.mark.parametrize("how", ["nearest", "linear"])
def test_rows_are_spread_over_the_clip(how: str):
    tower = tower_of(inflate=how, max_frames=6)
    before = tower.temporal_embed.detach().clone()
    tower.grow(1)
    tower.grow(2)
    assert torch.equal(tower.temporal_embed[:, :2], before[:, :1].expand(-1, 2, -1))  # all like the only one
    with torch.no_grad():
        tower.temporal_embed[0, 0], tower.temporal_embed[0, 1] = 0.0, 3.0
    tower.grow(4)
    shown = tower.temporal_embed[0, :4, 0].tolist()
    assert shown == pytest.approx([0, 0, 3, 3] if how == "nearest" else [0, 1, 2, 3])
    assert torch.equal(tower.temporal_embed[:, 4:], before[:, 4:])


@pytest.mark.parametrize("how", ["zeros", "nearest", "linear"])
def test_rows_made_once_are_trained_and_not_made_again(how: str):
    tower = tower_of(inflate=how)
    for frames in (2, 4):
        tower.grow(frames)
    with torch.no_grad():
        tower.temporal_embed.normal_()
    trained = tower.temporal_embed.detach().clone()
    for frames in (1, 3, 4):
        tower.grow(frames)
        assert torch.equal(tower.times(frames), trained[:, :frames])
    assert torch.equal(tower.temporal_embed, trained)


@pytest.mark.parametrize("how", ["zeros", "nearest", "linear"])
def test_clip_of_more_frames_than_trained_is_encoded_as_after_inflating(how: str):
    tower, grown = tower_of(inflate=how, max_frames=4), tower_of(inflate=how, max_frames=4)
    for each in (tower, grown):
        each.grow(2)
    grown.grow(4)
    assert torch.equal(tower(clips_of(4)), grown(clips_of(4)))
    large = tower_of(inflate=how, max_frames=8)
    large.load_state_dict(
        {name: weight for name, weight in grown.state_dict().items() if name != "temporal_embed"}
        | {"temporal_embed": torch.cat((grown.temporal_embed, torch.full((1, 4, WIDTH), 100.0)), dim=1)}
    )
    large.grow(8)
    assert torch.equal(grown(clips_of(8)), large(clips_of(8)))  # beyond max_frames


def test_towers_within_objectives_grow_with_the_model():
    """An average of the tower's past has rows of its own; what is not a tower is left alone."""
    model = nn.ModuleDict({"video": tower_of(inflate="nearest"), "head": nn.Linear(2, 2)})
    objectives = nn.ModuleList([nn.Linear(2, 2), tower_of(seed=1, inflate="nearest")])
    for frames in (1, 4):
        grow_towers(frames, model, objectives)
    for tower in (model["video"], objectives[1]):
        assert torch.equal(tower.temporal_embed, tower.temporal_embed[:, :1].expand(-1, 4, -1))


def test_number_of_trained_frames_goes_with_the_weights():
    tower = tower_of(inflate="nearest")
    tower.grow(2)
    restored = tower_of(seed=1, inflate="nearest")
    restored.load_state_dict(tower.state_dict())
    for each in (tower, restored):
        each.grow(4)
    assert torch.equal(restored.temporal_embed, tower.temporal_embed)
    assert torch.equal(tower.temporal_embed[:, 1], tower.temporal_embed[:, 0])


# ---------------------------------------------------------------- the ways of attention


@pytest.mark.parametrize("shape", [(2, 3, 7, 4), (2, 3, 5, 7, 4)])
def test_attention_written_out_equals_the_fused_one(shape: tuple[int, ...]):
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        attend(query, key, value), F.scaled_dot_product_attention(query, key, value), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("groups", ["f v", "v f"])
@pytest.mark.parametrize(("frames", "visible"), [(1, 5), (4, 1), (3, 7)])
@pytest.mark.parametrize("reduced", [False, True])
def test_attention_of_all_tokens_with_other_groups_masked_equals_that_in_groups(
    monkeypatch: pytest.MonkeyPatch, groups: str, frames: int, visible: int, reduced: bool
):
    torch.manual_seed(0)
    layer = DividedAttention(16, 2, groups)
    tokens = torch.randn(2, 1 + frames * visible, 16)
    found = {}
    for longest in (0, 100):
        monkeypatch.setattr(video, "JOINT_UP_TO", longest)
        given = tokens.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            output = layer(given, frames)
        loss = output.float().square().sum()
        found[longest] = [output, *torch.autograd.grad(loss, [given, *layer.parameters()])]
    for in_groups, joint in zip(*found.values(), strict=True):
        assert joint.dtype == in_groups.dtype
        torch.testing.assert_close(joint, in_groups, rtol=1e-5, atol=0.1 if reduced else 1e-5)


# ---------------------------------------------------------------- how time starts


def one_step(tower: DividedVideoTransformer, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Towards a fixed random target, over the class token."""
    target = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (tower(clips_of(4, seed=seed), random_mask(4, 4, seed=seed))[:, 0] - target).square().mean().backward()
    optimizer.step()


def test_copy_spatial_starts_without_any_effect_of_time():
    tower = tower_of(spread=None, temporal_init="copy_spatial")
    clips, visible = clips_of(4), random_mask(4, 4)
    before = tower(clips, visible)
    for block in tower.blocks:
        assert torch.equal(block.timeattn.qkv.weight, block.attn.qkv.weight)
        nn.init.normal_(block.timeattn.qkv.weight)
    assert torch.equal(before, tower(clips, visible))


def test_copy_spatial_learns_queries_and_keys_from_its_second_step_on():
    tower = tower_of(spread=None, temporal_init="copy_spatial")
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(2):
        one_step(tower, optimizer, step)
    for block in tower.blocks:
        queries, keys, values = block.timeattn.qkv.weight.grad.chunk(3)
        assert min(queries.abs().max(), keys.abs().max(), values.abs().max()) > 0


def test_frozen_zeros_start_like_copy_spatial_but_never_learn_queries_or_keys():
    tower = tower_of(spread=None, temporal_init="frozen_zeros")
    silent = tower_of(spread=None, temporal_init="copy_spatial")
    clips = clips_of(4)
    torch.testing.assert_close(tower(clips), silent(clips))
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(6):
        one_step(tower, optimizer, step)
    for block in tower.blocks:
        queries, keys, values = block.timeattn.qkv.weight.chunk(3)
        assert torch.count_nonzero(queries) == torch.count_nonzero(keys) == 0
        assert torch.count_nonzero(values) > 0


def test_random_init_lets_time_matter_at_once():
    tower = tower_of(spread=None, temporal_init="random")
    for block in tower.blocks:
        assert not torch.equal(block.timeattn.qkv.weight, block.attn.qkv.weight)
        assert torch.count_nonzero(block.timeattn.proj.weight) > 0
