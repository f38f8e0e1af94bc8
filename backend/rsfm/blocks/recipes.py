"""Encoders and trainings that presets of several methods share; what a preset changes it says itself."""

from typing import Any

Recipe = dict[str, Any]

SMALL_VIT: Recipe = {"size": "free", "width": 192, "depth": 4, "heads": 3, "patch_size": 4, "window": 32}
"""A transformer of 1.8 million weights, which a CPU trains in minutes."""
SMALL_CONV: Recipe = {"name": "conv_small", "width": 192}

MOCO_TRAINING: Recipe = {
    "minutes": 0,
    "epochs": 200,
    "batch_size": 256,
    "learning_rate": 0.03,
    "weight_decay": 1e-4,
    "optimizer": "sgd",
    "decay_all": True,
    "warmup": 0,
    "schedule": "epoch",
    "clip_norm": 0,
}
"""He et al., 2020, and GASSL after it."""
MOCO_QUICK: Recipe = {
    "minutes": 3,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "optimizer": "adamw",
    "beta2": 0.95,
    "decay_all": True,
    "warmup": 0.05,
    "schedule": "step",
    "clip_norm": 1,
}
MOCO_QUICK_METHOD: Recipe = {
    "name": "moco_v2",
    "views": "quick",
    "view_size": 32,
    "queue": 2048,
    "temperature": 0.2,
    "momentum": 0.99,
    "dimension": 64,
}
"""Views and queue of a small MoCo v2, within a date or across two."""

MAE_TRAINING: Recipe = {
    "minutes": 0,
    "epochs": 800,
    "batch_size": 256,
    "learning_rate": 1.5e-4,
    "weight_decay": 0.05,
    "optimizer": "adamw",
    "beta2": 0.95,
    "decay_all": False,
    "warmup": 0.05,
    "schedule": "step",
    "clip_norm": 0,
}
"""He et al., 2022; SatMAE has other numbers of passes, rates and warm-ups."""
MAE_QUICK: Recipe = {**MAE_TRAINING, "minutes": 3, "epochs": 0, "batch_size": 64, "learning_rate": 1e-3, "clip_norm": 1}

DINO_TRAINING: Recipe = {
    "minutes": 0,
    "epochs": 300,
    "batch_size": 1024,
    "learning_rate": 2e-3,
    "final_rate": 5e-4,
    "weight_decay": 0.04,
    "decay_growth": 10,
    "optimizer": "adamw",
    "beta2": 0.999,
    "decay_all": False,
    "warmup": 10 / 300,
    "schedule": "step",
    "clip_norm": 3,
    "clip_each": True,
}
"""Caron et al., 2021; SatDINO and PerA change the numbers."""
DINO_QUICK: Recipe = {
    **DINO_TRAINING,
    "minutes": 10,
    "epochs": 0,
    "batch_size": 64,
    "learning_rate": 5e-4,
    "final_rate": 0.01,
    "decay_growth": 5,
    "warmup": 0.1,
}
DINO_QUICK_HEAD: Recipe = {
    "large_size": 32,
    "small_size": 16,
    "prototypes": 1024,
    "hidden": 512,
    "bottleneck": 64,
    "teacher_temperature": 0.04,
    "teacher_temperature_end": 0.04,
    "temperature_share": 0,
    "momentum": 0.99,
    "drop_path": 0,
}
"""Views, head and teacher of all small self-distillations."""

EVENING: Recipe = {"minutes": 240, "epochs": 0, "batch_size": 256}
"""Four hours on one GPU. Presets of this name keep the authors' settings but for what a user's own rasters and one GPU
ask for: the network, the windows, the prototypes and the queue are smaller, and every share of the training is one of
its time.
"""
EVENING_VIT: Recipe = {"size": "small", "patch_size": 8}
"""Patches of 8 px: features of a map half as coarse as the papers'."""
EVENING_LEARNED_VIT: Recipe = {
    "name": "vit_learned",
    **EVENING_VIT,
    "window": 128,
    "pooling": "class",
    "gsd_token": False,
}
MOCO_EVENING: Recipe = {**MOCO_TRAINING, **EVENING, "warmup": 0.05, "schedule": "step"}
MAE_EVENING: Recipe = {**MAE_TRAINING, **EVENING}
EVENING_DECODER: Recipe = {"decoder_width": 256, "decoder_depth": 4, "decoder_heads": 8}
DINO_EVENING: Recipe = {**DINO_TRAINING, **EVENING, "learning_rate": 5e-4, "final_rate": 2e-3, "warmup": 0.1}
DINO_EVENING_HEAD: Recipe = {
    "large_size": 128,
    "small_size": 48,
    "prototypes": 4096,
    "hidden": 2048,
    "bottleneck": 256,
    "teacher_temperature": 0.04,
    "teacher_temperature_end": 0.07,
    "temperature_share": 0.15,
    "temperature_steps": 0,
    "momentum": 0.996,
    "drop_path": 0.1,
}
