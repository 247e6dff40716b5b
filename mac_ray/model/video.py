"""Divided space-time ViT that computes only visible tokens (Frozen in Time's block, MAC section 3.1).

B samples, F frames, F' of them seen, N patches per frame, V visible of them, D width, H heads, E = D / H.

One class token stands for the whole clip and, in both attentions, attends to every visible token of every
frame. A patch attends to the class token and to its group: in time, the k-th visible patch of each frame;
in space, the visible patches of its own frame. Pixels are gathered before they are embedded: embedding is
per patch, so the result is that of embedding everything and then dropping, at a fraction of the cost.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import VideoTower
from mac_ray.model.positions import inflate_time, resize_grid

# Fused kernels of GPUs compute 64 rows or more for each group and head, and their backward keeps 128, however few there
# are: of the four frames that meet in time that is mostly padding.
FEWEST_FUSED = 16


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Softmax attention over the second-last axis; any leading axes. `allowed`: booleans, query by key.

    Written out for few keys, and on the CPU, where the backward of scaled_dot_product_attention is slow on short
    sequences.
    """
    if query.is_cuda and key.shape[-2] >= FEWEST_FUSED:
        if query.ndim == 5:  # fused kernels take four axes, and anything else is written out in fp32
            groups = query.shape[2]
            query, key, value = (rearrange(x, "b h g m e -> (b g) h m e") for x in (query, key, value))
            grouped = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
            return rearrange(grouped, "(b g) h m e -> b h g m e", g=groups)
        fused: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return fused
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    attended: Tensor = scores.softmax(dim=-1, dtype=value.dtype) @ value
    return attended


# Clips of so many tokens go faster on a CPU through one attention in which other groups are masked: steps of 29 and of
# 65 tokens take 0.85 of the time. Of longer ones, what is computed and then masked costs more than it saves.
JOINT_UP_TO = 100


class DividedAttention(nn.Module):
    """Attention within groups of patches; the class token joins each group and sees them all."""

    def __init__(self, width: int, num_heads: int, groups: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.groups = groups  # einops names of (group, member): "f v" in space, "v f" in time
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """tokens: (B, 1 + F V, D), class token first, then frame by frame."""
        if tokens.device.type == "cpu" and tokens.shape[1] <= JOINT_UP_TO:
            return self.joint(tokens, frames)
        query, key, value = rearrange(
            self.qkv(tokens), "b t (three h e) -> three b h t e", three=3, h=self.num_heads
        )
        # split and not sliced: the gradient of a slice is as large as the whole, and zero but for it
        parts = (x.split((1, tokens.shape[1] - 1), dim=2) for x in (query, key, value))
        (own_query, queries), own_and_keys, own_and_values = parts
        clip = attend(own_query, key, value)  # (B, H, 1, E)

        def grouped(x: Tensor) -> Tensor:  # (B, H, group, member, E)
            return rearrange(x, f"b h (f v) e -> b h {self.groups} e", f=frames)

        def with_class(own: Tensor, x: Tensor) -> Tensor:  # (B, H, group, 1 + member, E)
            members = grouped(x)
            shared = own[:, :, None].expand(-1, -1, members.shape[2], -1, -1)
            return torch.cat((shared, members), dim=3)

        patches = attend(grouped(queries), with_class(*own_and_keys), with_class(*own_and_values))
        patches = rearrange(patches, f"b h {self.groups} e -> b h (f v) e")
        joined: Tensor = self.proj(rearrange(torch.cat((clip, patches), dim=2), "b h t e -> b t (h e)"))
        return joined

    def joint(self, tokens: Tensor, frames: int) -> Tensor:
        """The same, as one attention of all tokens in which those of other groups are masked."""
        query, key, value = rearrange(
            self.qkv(tokens), "b t (three h e) -> three (b h) t e", three=3, h=self.num_heads
        )
        number = torch.arange(tokens.shape[1] - 1)
        visible = len(number) // frames
        group = number // visible if self.groups == "f v" else number % visible
        # the class token sees all and is seen by all
        others = F.pad(group[:, None] != group, (1, 0, 1, 0))
        scores = torch.baddbmm(
            torch.zeros(others.shape, dtype=query.dtype).masked_fill(others, -torch.inf),
            query,
            key.transpose(1, 2),
            alpha=query.shape[-1] ** -0.5,
        )
        attended = scores.softmax(dim=-1, dtype=value.dtype) @ value
        joined: Tensor = self.proj(rearrange(attended, "(b h) t e -> b t (h e)", h=self.num_heads))
        return joined

    def class_attention(self, tokens: Tensor) -> Tensor:
        """How the class token shares its attention among the F V patches, mean over heads: (B, F V)."""
        width = tokens.shape[-1]
        own, every = slice(width), slice(width, 2 * width)  # rows of queries and of keys
        query = F.linear(tokens[:, :1], self.qkv.weight[own], self.qkv.bias[own])
        key = F.linear(tokens, self.qkv.weight[every], self.qkv.bias[every])
        query, key = (rearrange(x, "b t (h e) -> b h t e", h=self.num_heads) for x in (query, key))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, H, 1, 1 + F V)
        shares: Tensor = scores.float().softmax(dim=-1)[:, :, 0, 1:].mean(dim=1)
        return shares


class SpaceTimeBlock(nn.Module):
    def __init__(self, section: VideoTower) -> None:
        super().__init__()
        width = section.width
        self.residual_from_input = section.residual == "frozen"
        self.norm1 = nn.LayerNorm(width, eps=1e-6)  # before space
        self.norm2 = nn.LayerNorm(width, eps=1e-6)  # before the MLP
        self.norm3 = nn.LayerNorm(width, eps=1e-6)  # before time
        self.attn = DividedAttention(width, section.num_heads, groups="f v")
        self.timeattn = DividedAttention(width, section.num_heads, groups="v f")
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """(B, 1 + F V, D) -> the same.

        Frozen adds the spatial branch to the block's input, not to the time branch, so time reaches the
        output only through space; TimeSformer adds it to the time branch.
        """
        timed = self.timed(tokens, frames)
        spaced = self.attn(self.norm1(timed), frames)
        tokens = (tokens if self.residual_from_input else timed) + spaced
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output

    def timed(self, tokens: Tensor, frames: int) -> Tensor:
        """With the temporal branch added: what the spatial one sees."""
        added: Tensor = tokens + self.timeattn(self.norm3(tokens), frames)
        return added


# mean and deviation of the channels
PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class DividedVideoTransformer(nn.Module):
    """Module names follow Frozen in Time's checkpoints, so that importing is a map of prefixes."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, section: VideoTower, image_size: int) -> None:
        super().__init__()
        self.patch_size = section.patch_size
        side = image_size // section.patch_size
        self.grid = (side, side)
        self.max_frames = section.max_frames
        self.inflate = section.inflate
        self.trained_frames = 0  # rows of the temporal embedding that training has reached
        self.patch_embed = nn.Linear(3 * section.patch_size**2, section.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, section.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, section.width))
        self.temporal_embed = nn.Parameter(torch.zeros(1, section.max_frames, section.width))
        self.blocks = nn.ModuleList(SpaceTimeBlock(section) for _ in range(section.depth))
        self.norm = nn.LayerNorm(section.width, eps=1e-6)
        for name, values in zip(("pixel_mean", "pixel_std"), PIXELS[section.pixels], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None], persistent=False)  # (3, 1)
        initialise(self)
        TEMPORAL_INITS[section.temporal_init](self)

    def forward(self, clips: Tensor, visible: Tensor | None = None) -> Tensor:
        """clips (B, F, 3, H, W), uint8, or normalised already; visible (B, F', V), or None for all.

        Patch p of frame f is visible's number f N + p; each of its rows is of one frame. Clips of another size
        than the tower was built for are taken as they are, and the positions stretched over them.

        Returns the normalised tokens (B, 1 + F' V, D), the class token first.
        """
        tokens = self.embed(clips, visible)
        frames = clips.shape[1] if visible is None else visible.shape[1]
        for block in self.blocks:
            tokens = block(tokens, frames)
        output: Tensor = self.norm(tokens)
        return output

    def class_attention(self, clips: Tensor) -> Tensor:
        """Where the class token looks in the last block's spatial attention, whole clips given: (B, F, N)."""
        tokens, frames = self.embed(clips, None), clips.shape[1]
        *blocks, last = self.blocks
        for block in blocks:
            tokens = block(tokens, frames)
        assert isinstance(last, SpaceTimeBlock)
        shares = last.attn.class_attention(last.norm1(last.timed(tokens, frames)))
        return rearrange(shares, "b (f n) -> b f n", f=frames)

    def embed(self, clips: Tensor, visible: Tensor | None) -> Tensor:
        """The tokens (B, 1 + F' V, D) that enter the first block, the class token first."""
        frames = clips.shape[1]
        pixels = patchified(clips, self.patch_size).flatten(
            1, 2
        )  # (B, F N, 3 P²), as bytes until they are seen
        grid = (clips.shape[3] // self.patch_size, clips.shape[4] // self.patch_size)
        places = self.pos_embed if grid == self.grid else resize_grid(self.pos_embed, grid, self.grid)
        positions = (places[:, 1:] + self.times(frames)[0, :, None]).flatten(0, 1)  # (F N, D)
        if visible is None:
            patches = self.patch_embed(self.normalised(pixels)) + positions
        else:
            seen = visible.flatten(1)
            pixels = pixels.gather(1, seen[..., None].expand(-1, -1, pixels.shape[-1]))
            # not positions[seen], whose gradient several threads of a CPU sum in any order
            patches = self.patch_embed(self.normalised(pixels)) + F.embedding(seen, positions)  # (B, F' V, D)
        clip = (self.cls_token + self.pos_embed[:, :1]).expand(clips.shape[0], -1, -1)
        return torch.cat((clip, patches), dim=1)

    def normalised(self, patches: Tensor) -> Tensor:
        """The pixels of patches (…, 3 P²) with the channels' mean and deviation taken out; what is no bytes has them
        out already.
        """
        if patches.dtype != torch.uint8:
            return patches
        # not -1 for the last: there may be no patch
        channels = patches.view(*patches.shape[:-1], 3, patches.shape[-1] // 3).float()
        normalised: Tensor = ((channels / 255 - self.pixel_mean) / self.pixel_std).flatten(-2)
        return normalised

    def times(self, frames: int) -> Tensor:
        """What tells the frames of a clip apart (1, F, D): the embedding's own rows, or what `inflate` makes of
        the trained ones where there are too few of them. Raises ValueError for more frames than there are rows.
        """
        if self.inflate != "keep" and 0 < self.trained_frames < frames:
            return inflate_time(self.temporal_embed[:, : self.trained_frames], frames, self.inflate)
        if frames > self.max_frames:
            raise ValueError(f"a clip of {frames} frames, but model.video.max_frames is {self.max_frames}")
        return self.temporal_embed[:, :frames]

    @torch.no_grad()
    def grow(self, frames: int) -> None:
        """Make the rows to train clips of so many frames; without effect when as many were trained before."""
        if frames > self.trained_frames:
            self.temporal_embed[:, :frames] = self.times(frames)
            self.trained_frames = frames

    def get_extra_state(self) -> Tensor:
        """Goes into the state dict with the weights, so that a checkpoint knows which of its rows are trained."""
        return torch.tensor(self.trained_frames)

    def set_extra_state(self, state: Tensor) -> None:
        self.trained_frames = int(state)


def grow_towers(frames: int, *modules: nn.Module) -> None:
    """Every tower in the modules, an objective's average of one included, is about to see so many frames."""
    for module in modules:
        for tower in module.modules():
            if isinstance(tower, DividedVideoTransformer):
                tower.grow(frames)


def patchified(clips: Tensor, patch_size: int) -> Tensor:
    """(B, F, 3, H, W) -> the pixels of each patch, (B, F, N, 3 P²)."""
    return rearrange(clips, "b f c (y p) (x q) -> b f (y x) (c p q)", p=patch_size, q=patch_size)


def initialise(tower: DividedVideoTransformer) -> None:
    """A start from which small towers learn without a checkpoint.

    ViT's own 0.02 and zero time are meant for width 768 and imported weights: at width 128 they leave every
    branch near silent, and a run spends its steps on colours before it notices place, shape or motion. So
    weights keep the variance of what they are given, and places and times start as sinusoids.
    """
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(tower.cls_token, std=0.02)
    width = tower.cls_token.shape[-1]
    with torch.no_grad():
        tower.pos_embed[0, 1:] = grid_sinusoids(tower.grid, width)
        tower.temporal_embed[0] = sinusoids(torch.arange(tower.max_frames), width)


def grid_sinusoids(grid: tuple[int, int], width: int) -> Tensor:
    """Half of the width says the row, half the column, in raster order: (N, width)."""
    rows, columns = (torch.arange(side) for side in grid)
    half = width // 2
    table = torch.zeros(len(rows) * len(columns), width)
    table[:, :half] = sinusoids(rows, half).repeat_interleave(len(columns), dim=0)
    table[:, half : 2 * half] = sinusoids(columns, half).repeat(len(rows), 1)
    return table


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of (P,) positions at wavelengths from 6 to 600: (P, width)."""
    frequencies = 100.0 ** -torch.linspace(0, 1, (width + 1) // 2, device=positions.device)
    angles = positions[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :width]


def copy_spatial(tower: DividedVideoTransformer) -> None:
    """Time starts with space's norm, queries, keys and values and a zero projection: silent, but able to learn."""
    for block in tower.blocks:
        assert isinstance(block, SpaceTimeBlock)
        block.norm3.load_state_dict(block.norm1.state_dict())
        block.timeattn.qkv.load_state_dict(block.attn.qkv.state_dict())
        nn.init.zeros_(block.timeattn.proj.weight)


def frozen_zeros(tower: DividedVideoTransformer) -> None:
    """Frozen's own start, for reproduction: zero queries and keys, whose gradients then stay zero for ever."""
    for block in tower.blocks:
        assert isinstance(block, SpaceTimeBlock)
        nn.init.zeros_(block.timeattn.qkv.weight)
        nn.init.ones_(block.timeattn.proj.weight)


def keep_random(tower: DividedVideoTransformer) -> None:
    """Time starts like every other layer."""


TEMPORAL_INITS = {"copy_spatial": copy_spatial, "frozen_zeros": frozen_zeros, "random": keep_random}
