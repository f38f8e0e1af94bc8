"""Golden cases of BIT in sizes that the authors' case does not have, by plain formulas under the authors' names."""

import json
from pathlib import Path
from typing import Any

import torch
from rsfm.goldens.bit import rule
from safetensors.torch import save_file
from torch.nn import functional

HEADS = 8


def head_shapes(case: dict[str, Any]) -> dict[str, list[int]]:
    """Return the shapes of all weights of the head."""
    width, tokens, hidden = case["width"], case["tokens"], 2 * case["width"]
    shapes = {
        "conv_pred.weight": [width, case["features"], 3, 3], "conv_pred.bias": [width],
        "conv_a.weight": [tokens, width, 1, 1], "pos_embedding": [1, 2 * tokens, width],
        "classifier.0.weight": [width, width, 3, 3], "classifier.1.weight": [width], "classifier.1.bias": [width],
        "classifier.1.running_mean": [width], "classifier.1.running_var": [width],
        "classifier.1.num_batches_tracked": [], "classifier.3.weight": [2, width, 3, 3], "classifier.3.bias": [2],
    }  # fmt: skip
    for part, depth, inner in (("transformer", "depth", "inner"), ("transformer_decoder", "decoder_depth", "wide")):
        for layer in range(case[depth]):
            names = {"to_qkv": 3 * case[inner]} if part == "transformer" else dict.fromkeys(
                ("to_q", "to_k", "to_v"), case[inner]
            )  # fmt: skip
            first, second = f"{part}.layers.{layer}.0.fn", f"{part}.layers.{layer}.1.fn"
            shapes |= {f"{first}.fn.{name}.weight": [rows, width] for name, rows in names.items()}
            shapes |= {f"{first}.fn.to_out.0.weight": [width, case[inner]], f"{first}.fn.to_out.0.bias": [width]}
            shapes |= {f"{at}.norm.{kind}": [width] for at in (first, second) for kind in ("weight", "bias")}
            shapes |= {f"{second}.fn.net.0.weight": [hidden, width], f"{second}.fn.net.0.bias": [hidden]}
            shapes |= {f"{second}.fn.net.3.weight": [width, hidden], f"{second}.fn.net.3.bias": [width]}
    return shapes


def resnet_shapes(case: dict[str, Any]) -> dict[str, list[int]]:
    """Return the shapes of a ResNet of basic blocks, one a stage, what classifies images included."""
    shapes: dict[str, list[int]] = {"conv1.weight": [case["stages"][0], case["bands"], 7, 7]}

    def norm(name: str, width: int) -> None:
        kinds = ("weight", "bias", "running_mean", "running_var")
        shapes.update({f"{name}.{kind}": [width] for kind in kinds} | {f"{name}.num_batches_tracked": []})

    norm("bn1", inputs := case["stages"][0])
    for stage, width in enumerate(case["stages"], start=1):
        at = f"layer{stage}.0"
        shapes |= {f"{at}.conv1.weight": [width, inputs, 3, 3], f"{at}.conv2.weight": [width, width, 3, 3]}
        norm(f"{at}.bn1", width)
        norm(f"{at}.bn2", width)
        if stage > 1:
            shapes[f"{at}.downsample.0.weight"] = [width, inputs, 1, 1]
            norm(f"{at}.downsample.1", width)
        inputs = width
    return {f"resnet.{name}": shape for name, shape in (shapes | {"fc.weight": [7, inputs], "fc.bias": [7]}).items()}


def plain_head(own: dict[str, Any], first: Any, second: Any, training: bool = False) -> dict[str, Any]:
    """Compute everything the head does, one pixel's attention at a time in einsums."""
    found = {}
    for number, map_BDhw in enumerate((first, second), start=1):
        wide = map_BDhw.repeat_interleave(2, 2).repeat_interleave(2, 3)
        found[f"x{number}"] = functional.conv2d(wide, own["conv_pred.weight"], own["conv_pred.bias"], padding=1)
    width = found["x1"].shape[1]
    tokens = []
    for name in ("x1", "x2"):
        attention = torch.einsum("ldij,bdhw->blhw", own["conv_a.weight"], found[name]).flatten(2).softmax(2)
        tokens.append(torch.einsum("bln,bdn->bld", attention, found[name].flatten(2)))
    found["tokens_in"] = torch.cat(tokens, 1)
    state = found["tokens_in"] + own["pos_embedding"]
    state = plain_layers(own, "transformer", state, None, width)
    found["tokens_out"] = state
    for number, memory in enumerate(state.chunk(2, 1), start=1):
        pixels = found[f"x{number}"]
        read = plain_layers(own, "transformer_decoder", pixels.flatten(2).transpose(1, 2), memory, width)
        found[f"dec{number}"] = read.transpose(1, 2).reshape(pixels.shape)
    apart = (found["dec1"] - found["dec2"]).abs()
    large = functional.interpolate(apart, scale_factor=4, mode="bilinear", align_corners=False)
    large = functional.conv2d(large, own["classifier.0.weight"], padding=1)
    names = ("running_mean", "running_var", "weight", "bias")
    large = functional.batch_norm(large, *(own[f"classifier.1.{name}"] for name in names), training=training)
    found["logits"] = functional.conv2d(large.relu(), own["classifier.3.weight"], own["classifier.3.bias"], padding=1)
    return found


def plain_layers(own: dict[str, Any], part: str, state: Any, memory: Any, width: int) -> Any:
    layer = 0
    while f"{part}.layers.{layer}.0.fn.norm.weight" in own:
        first, second = f"{part}.layers.{layer}.0.fn", f"{part}.layers.{layer}.1.fn"

        def norm(x: Any, at: str) -> Any:
            return functional.layer_norm(x, (width,), own[f"{at}.norm.weight"], own[f"{at}.norm.bias"])

        seen = norm(state, first)
        looked = seen if memory is None else norm(memory, first)
        if memory is None:
            weights = own[f"{first}.fn.to_qkv.weight"].chunk(3)
        else:
            weights = [own[f"{first}.fn.{name}.weight"] for name in ("to_q", "to_k", "to_v")]
        query, key, value = (
            (x @ weight.T).unflatten(2, (HEADS, -1)) for x, weight in zip((seen, looked, looked), weights, strict=True)
        )
        score = (torch.einsum("bqef,bmef->beqm", query, key) / width**0.5).softmax(3)
        answer = torch.einsum("beqm,bmef->bqef", score, value).flatten(2)
        state = state + answer @ own[f"{first}.fn.to_out.0.weight"].T + own[f"{first}.fn.to_out.0.bias"]
        inner = functional.gelu(
            norm(state, second) @ own[f"{second}.fn.net.0.weight"].T + own[f"{second}.fn.net.0.bias"]
        )
        state = state + inner @ own[f"{second}.fn.net.3.weight"].T + own[f"{second}.fn.net.3.bias"]
        layer += 1
    return state


def plain_resnet(own: dict[str, Any], pixels: Any, stages: int) -> Any:
    """Run the stages at strides 4, 8, 8, 8."""

    def convolve(x: Any, name: str, norm: str, stride: int, padding: int) -> Any:
        x = functional.conv2d(x, own[f"{name}.weight"], stride=stride, padding=padding)
        return functional.batch_norm(
            x, *(own[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        )

    x = functional.max_pool2d(convolve(pixels, "conv1", "bn1", 2, 3).relu(), 3, 2, 1)
    for stage in range(1, stages + 1):
        at, stride = f"layer{stage}.0", 2 if stage == 2 else 1
        inner = convolve(x, f"{at}.conv1", f"{at}.bn1", stride, 1).relu()
        around = convolve(x, f"{at}.downsample.0", f"{at}.downsample.1", stride, 0) if stage > 1 else x
        x = (convolve(inner, f"{at}.conv2", f"{at}.bn2", 1, 1) + around).relu()
    return x


def write_bit_case(folder: Path, case: dict[str, Any]) -> None:
    """Write a case as the authors' are: config.json, head_weights.safetensors and io.safetensors."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(case["seed"])
    own = {name: rule(name, shape, case["seed"]) for name, shape in head_shapes(case).items()}
    maps = [torch.randn(2, case["features"], *case["size"], generator=generator) for _ in range(2)]
    arrays = {"feat1": maps[0], "feat2": maps[1], **plain_head(own, *maps)}
    target = torch.randint(0, 2, arrays["logits"][:, :1].shape, generator=generator, dtype=torch.uint8)
    target[:, :, ::5] = 255
    learned = {
        name: value.clone().requires_grad_(value.is_floating_point() and "running" not in name)
        for name, value in own.items()
    }
    logits = plain_head(learned, *maps, training=True)["logits"]
    loss = functional.cross_entropy(logits, target[:, 0].long(), ignore_index=255)
    loss.backward()
    arrays |= {"target": target, "train_loss": loss.detach()[None], "train_logits_sub": logits[:, :, ::8, ::8]}
    arrays |= {f"running_{kind}_after": learned[f"classifier.1.running_{kind}"] for kind in ("mean", "var")}
    for name in ("pos_embedding", "conv_a.weight", "transformer.layers.0.0.fn.fn.to_qkv.weight"):
        arrays[f"grad.{name}"] = learned[name].grad
    shapes = head_shapes({**case, "features": case["stages"][case["kept"] - 1]}) | resnet_shapes(case)
    whole = {name.removeprefix("resnet."): rule(name, shape, case["seed"] + 1) for name, shape in shapes.items()}
    images = [torch.randn(1, case["bands"], 32, 48, generator=generator) for _ in range(2)]
    results = plain_head(whole, *(plain_resnet(whole, image, case["kept"]) for image in images))
    arrays |= {"full_img1": images[0], "full_img2": images[1], "full_logits": results["logits"]}
    arrays["full_x1_sub"] = results["x1"][..., ::4, ::4]
    arrays = {name: value.detach().contiguous() for name, value in arrays.items()}
    save_file(arrays, folder / "io.safetensors")
    save_file(own, folder / "head_weights.safetensors")
    config = {"seed": case["seed"], "rule_seed_full": case["seed"] + 1, "full_keys": shapes}
    (folder / "config.json").write_text(json.dumps(config))
    assert all(torch.isfinite(value.float()).all() for value in arrays.values())
