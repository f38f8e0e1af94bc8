"""The evaluation protocols and the adapter against the numbers of their authors' code, and against plain formulas."""

import json

import numpy as np
import pytest
import torch
from rsfm.golden import main
from safetensors.numpy import save_file

from tests.backend.test_golden import golden


@pytest.mark.parametrize("name", ["knn", "linear_probe", "vit_adapter"])
def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(name, capsys):
    assert main([str(golden(name))]) == 0
    printed = capsys.readouterr().out
    assert " 0 over" in printed
    assert "not compared" not in printed


def write_knn_case(folder, train, asked, width, classes, settings):
    """Write a case whose numbers come from loops over single windows."""
    random = np.random.default_rng(train)
    centre_KD = random.normal(size=(classes, width))
    labels_N, labels_M = random.integers(classes, size=train), random.integers(classes, size=asked)
    train_ND = (centre_KD[labels_N] + random.normal(size=(train, width))).astype("float32")
    asked_MD = (centre_KD[labels_M] + random.normal(size=(asked, width))).astype("float32")
    unit_ND, unit_MD = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (train_ND, asked_MD))
    arrays = {
        "train_features_raw": train_ND, "test_features_raw": asked_MD, "train_features": unit_ND,
        "test_features": unit_MD, "train_labels": labels_N, "test_labels": labels_M,
    }  # fmt: skip
    results = {}
    for count, temperature in settings:
        votes_MK = np.zeros((asked, classes))
        for at, unit_D in enumerate(unit_MD.astype(float)):
            cosine_N = unit_ND.astype(float) @ unit_D
            for place in np.argsort(-cosine_N, kind="stable")[:count]:
                votes_MK[at, labels_N[place]] += np.exp(cosine_N[place] / temperature)
        order_MK = np.argsort(-votes_MK, axis=1, kind="stable")
        name = f"k{count}_T{temperature}"
        arrays[f"votes_{name}"], arrays[f"pred_{name}"] = votes_MK.astype("float32"), order_MK[:, 0].copy()
        right_MK = order_MK == labels_M[:, None]
        tops = {"top1": 1, "top5": min(5, count)}
        results[name] = {top: 100 * right_MK[:, :best].sum() / asked for top, best in tops.items()}
    folder.mkdir()
    save_file(arrays, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_classes": classes, "results": results}))


@pytest.mark.parametrize(
    ("train", "asked", "width", "classes", "settings"),
    [(40, 1, 5, 3, [(3, 0.1), (11, 0.07)]), (31, 57, 8, 12, [(1, 0.07), (31, 0.5), (7, 0.2)])],
)
def test_votes_of_other_sizes_are_what_loops_give(train, asked, width, classes, settings, tmp_path, capsys):
    write_knn_case(tmp_path / "knn_other", train, asked, width, classes, settings)
    assert main([str(tmp_path / "knn_other")]) == 0, capsys.readouterr().out
    assert "not compared" not in capsys.readouterr().out


def write_probe_case(width, classes, count, batch, epochs):
    """Make the training part of a case, by torch's own schedule, and what comes of it."""
    torch.manual_seed(width)
    features_NF, class_N = torch.randn(count, width), torch.randint(classes, (count,))
    test_MF = torch.randn(9, width)
    arrays = {
        "images": torch.randn(2, 2, 8, 16).numpy(), "train_features": features_NF.numpy(),
        "test_features": test_MF.numpy(),
        "train_labels": class_N.numpy(), "test_labels": torch.randint(classes, (9,)).numpy(),
    }  # fmt: skip
    results = {}
    for name in ("sgd", "adamw"):
        layer = torch.nn.Linear(width, classes)
        arrays[f"{name}.w0"], arrays[f"{name}.b0"] = (part.detach().numpy().copy() for part in layer.parameters())
        lr = 0.3 * batch / 256
        optimizer = (
            torch.optim.SGD(layer.parameters(), lr, momentum=0.9)
            if name == "sgd"
            else torch.optim.AdamW(layer.parameters(), lr, weight_decay=0)
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 0)
        losses, rates = [], []
        for _ in range(epochs):
            rates.append(optimizer.param_groups[0]["lr"])
            for start in range(0, count, batch):
                part = slice(start, start + batch)
                loss = torch.nn.functional.cross_entropy(layer(features_NF[part]), class_N[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            schedule.step()
        arrays |= {f"{name}.losses": np.array(losses), f"{name}.lrs": np.array(rates)}
        arrays |= {f"{name}.w": layer.weight.detach().numpy(), f"{name}.b": layer.bias.detach().numpy()}
        arrays[f"{name}.test_logits"] = layer(test_MF).detach().numpy()
        right = (arrays[f"{name}.test_logits"].argmax(1) == arrays["test_labels"]).mean()
        results[name] = {"acc1": 100 * float(right), "last_loss": losses[-1]}
    return arrays, results


def test_probes_of_other_sizes_are_what_torchs_own_schedule_gives(tmp_path, capsys):
    from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig

    config = ViTLearnedConfig(patch_size=4, window=8, width=12, depth=2, heads=3)
    encoder = ViTLearned(config, 2)
    arrays, results = write_probe_case(7, 3, 50, 16, 3)
    tokens_BTD = encoder.sequence(encoder.embed(torch.from_numpy(arrays["images"])))
    classes = []
    for block in encoder.blocks:
        tokens_BTD = block(tokens_BTD)
        classes.append(encoder.norm(tokens_BTD).detach())
    arrays["feat_n2"] = torch.cat([each[:, 0] for each in classes], 1).numpy()
    pairs = torch.stack([classes[-1][:, 0], classes[-1][:, 1:].mean(1)], -1).flatten(1)
    arrays["feat_n1_avgpool_interleaved"] = pairs.numpy()
    folder = tmp_path / "linear_probe_other"
    folder.mkdir()
    save_file(arrays, folder / "io.safetensors")
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    save_file(weights, folder / "encoder_weights.safetensors")
    vit = {"img_size": "[8]", "patch_size": "4", "in_chans": "2", "embed_dim": "12", "depth": "2", "num_heads": "3"}
    config = {"vit": vit, "lr": 0.3, "epochs": 3, "batch_size": 16, "results": results}
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder)]) == 0, capsys.readouterr().out
    assert "not compared" not in capsys.readouterr().out
