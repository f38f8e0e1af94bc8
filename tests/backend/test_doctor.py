"""What the doctor finds, with the real program; GPUs are those that a small nvidia-smi tells of."""

import json
import subprocess
import sys

import pytest
import torch
from rsfm.device_check import check_device, explain

SMI = """#!/bin/sh
case "$1" in
  --query-gpu*) printf '0, GPU-aa, RTX 4070, 12282, 512, 470.82\\n' ;;
  --query-compute*) printf 'GPU-aa, 41, blender, 11000\\nGPU-bb, 7, other, 900\\nGPU-aa, 42, /usr/bin/python, 300\\n' ;;
  *) echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9 ;;
esac
"""
GPU = {"name": "cuda:0", "id": "GPU-aa", "free": 2**29, "memory": 12 * 2**30, "driver": "470.82"}


@pytest.fixture
def smi(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def doctor(*arguments):
    done = subprocess.run([sys.executable, "-m", "rsfm", "doctor", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_device_is_tried_with_a_product_whose_numbers_are_known():
    check = check_device({"name": "cpu"})
    assert check.problem == ""
    assert check.gflops == pytest.approx(2 * check.side**3 / check.milliseconds / 1e6, rel=0.2)


def test_doctor_says_why_the_cpu_is_used_where_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = doctor("--json", "--runs", str(tmp_path / "not" / "there"))
    found = json.loads(text)
    assert code == 0
    assert found["verdict"] == "Running on the CPU because no NVIDIA or Apple GPU was found."
    assert found["device"] == "cpu"
    assert {"RSFM", "protocol", "torch", "GDAL", "rasterio"} <= set(found["versions"])
    assert all(disk["free"] > 0 for disk in found["disks"])
    assert found["memory"]["total"] > found["memory"]["free"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this computer has a GPU that computes")
def test_doctor_says_what_is_wrong_with_a_gpu_that_torch_cannot_use(smi):
    code, text = doctor()
    assert code == 0
    assert text.startswith("Running on the CPU because of RTX 4070, ")
    assert "RTX 4070, 0.5 GB of 12.0 GB free, driver 470.82" in text
    assert "cannot be used" in text
    assert "product of 1024 x 1024 matrices is right" in text


def test_doctor_quotes_a_driver_that_does_not_answer(smi):
    smi.write_text(SMI.replace("printf '0,", "exit 9; printf '0,"))
    assert "finds no GPU: NVIDIA-SMI has failed" in doctor()[1].splitlines()[0]


def test_doctor_names_the_variable_that_hides_the_gpus(smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor()[1].startswith("Running on the CPU because CUDA_VISIBLE_DEVICES hides every GPU.")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040).", "the driver 470.82 is too old for"),
        ("Torch not compiled with CUDA enabled", "was built without CUDA"),
        ("CUDA error: no kernel image is available for execution on the device", "no code for a GPU of this age"),
        ("Found no NVIDIA driver on your system.", "its driver does not answer torch"),
        ("CUDA error: an illegal memory access\nmore", "it does not compute: CUDA error: an illegal memory access"),
    ],
)
def test_what_torch_says_of_a_gpu_is_told_in_plain_words(error, sentence):
    assert sentence in explain(GPU, error)


def test_memory_that_others_hold_is_told_with_their_names(smi):
    text = explain(GPU, "CUDA out of memory. Tried to allocate 20.00 MiB.")
    assert "0.5 GB of 12.0 GB are free" in text
    assert "(blender, process 41, 10.7 GB, /usr/bin/python, process 42, 0.3 GB)" in text
