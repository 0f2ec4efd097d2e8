"""Whole profiles on tiny weights of the true architectures, every node in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from devtools import plain_diffusers
from devtools.fakes.tools import command, leftovers
from devtools.patience import PATIENCE
from devtools.profile_runs import (
    PICTURE,
    SIZES,
    STEPS,
    Finished,
    environment,
    link_models,
    orchestrate,
    run_profile,
    sets,
)
from devtools.tiny.flux import build_lora
from stages.geometry.bundle import split

NINE = [
    "preprocess",
    "multiview",
    "reference",
    "caption",
    "prompt",
    "encode",
    "flux",
    "reconstruct",
    "isomer",
]
TILE = {"mode": "tile", "scale": 0.6, "start": 0.0, "end": 0.65}
ORIGINAL: dict[str, dict[str, Any]] = {
    "preprocess": {"background": "rembg", "framing": "reference", "defringe": False},
    "multiview": {"guidance": 4.0},
    "reference": {"tilted_normals": True, "rgb": "views", "radius": 4.15, "closed": False},
    "caption": {"num_beams": 3, "text": ""},
    "prompt": {"enabled": True, "temperature": 0.7, "weights": "qwen2-7b"},
    "encode": {"redux": True, "redux_strength": 0.5, "max_sequence_length": 512},
    "flux": {"strength": 0.95, "guidance_scale": 3.5, "lora_scale": 1.0, "noise": "device"},
    "reconstruct": {"mask": "u2net", "empty_shape": "reference", "closed": False},
    "isomer": {
        "radius": 4.15,
        "objective": "reference",
        "silhouettes": "given",
        "outline": "white",
    },
}
"""What the reference sets (docs/reference.md), less what the tests make small."""
OPTIMIZED: dict[str, dict[str, Any]] = {
    "preprocess": {"background": "auto", "framing": "centered"},
    "multiview": {"steps": 24, "guidance": 4.0},
    "reference": {"tilted_normals": False},
    "prompt": {"enabled": False, "quantize": "int8"},
    "encode": {"redux_strength": 0.5},
    "flux": {"steps": 14, "strength": 0.95, "guidance_scale": 3.5, "lora_merge": True},
    "isomer": {"stage2_steps": 40, "objective": "improved", "axes": "gltf"},
}


@pytest.fixture(scope="module")
def original(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Profile original with every size and number of steps made small."""
    folder = tmp_path_factory.mktemp("original")
    return run_profile(tiny_models, folder, "original", *sets("original", SIZES, STEPS))


def assert_params(run: Finished, wanted: dict[str, dict[str, Any]]) -> None:
    for node, values in wanted.items():
        given = run.params(node)
        assert {key: given[key] for key in values} == values, node
    (control,) = run.params("flux")["controlnet"]
    assert TILE.items() <= control.items()


def assert_whole(run: Finished, nodes: list[str]) -> None:
    """All nodes done, each by a process of its own, ending in a mesh."""
    assert run.manifest["state"] == "done"
    assert list(run.nodes) == nodes
    assert {node["state"] for node in run.nodes.values()} == {"done"}
    assert run.manifest["nodes"].keys() == run.pids().keys()
    pids = [pid for attempts in run.pids().values() for pid in attempts]
    assert len(set(pids)) == len(nodes), "one process a node, none tried twice"
    rows = [row for node in run.nodes.values() for row in node["attempts"]]
    assert {row["device"] for row in rows} == {"cpu"}
    assert "float16" not in {row["dtype"] for row in rows}, "half precision is for cards"
    scene = trimesh.load_scene(run.path / "result" / "mesh.glb", skip_materials=True)
    (mesh,) = scene.geometry.values()
    assert len(mesh.faces) > 100
    assert np.isfinite(mesh.vertices).all()
    assert leftovers(run.path) == []


def test_original_goes_through_nine_processes_to_a_mesh(original: Finished) -> None:
    assert_whole(original, NINE)
    assert {name: n["attempts"][0]["dtype"] for name, n in original.nodes.items()} == {
        **dict.fromkeys(NINE, "float32"),
        "prompt": "bfloat16",
        "encode": "bfloat16",
        "flux": "bfloat16",
    }


def test_original_runs_with_the_references_params(original: Finished) -> None:
    assert original.manifest["profile"] == "original"
    assert original.manifest["seed"] == 42
    assert_params(original, ORIGINAL)


@pytest.mark.slow
def test_the_bundle_is_what_plain_diffusers_draws(
    original: Finished, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """encode and flux, in processes of their own, against one process with diffusers alone: the
    same reference bundle, prompt, picture and seed, in float32."""
    models = link_models(tiny_models, tmp_path / "models", but=["kiss3dgen-lora"])
    build_lora(models, "diffusers")
    exact = [{"device": "cpu", "dtype": "float32"}]
    run = run_profile(
        models,
        original.path.parents[1],
        "original",
        *("--until", "flux"),
        *sets(
            "original",
            SIZES,
            STEPS,
            {"encode.attempts": exact, "flux.attempts": exact},
            {"flux.transformer": "flux1-dev-transformer"},
        ),
    )
    assert run.nodes["multiview"]["cached_from"], "views and reference are the other run's"
    assert not run.nodes["flux"]["cached_from"]

    prompt = (run.path / "prompt" / "prompt.txt").read_text(encoding="utf-8")
    picture = np.load(run.path / "preprocess" / "image.npy")
    reference = np.load(run.path / "reference" / "reference_bundle.npy")
    tokens, pooled = plain_diffusers.embeddings(models, prompt, picture, strength=0.5)
    np.testing.assert_allclose(
        np.load(run.path / "encode" / "prompt_embeds.npy"), tokens, atol=1e-4
    )
    net = diffusers.FluxControlNetModel.from_pretrained(models / "flux1-controlnet-union")
    pipe: Any = plain_diffusers.flux_pipeline(
        "FluxControlNetImg2ImgPipeline", models, monkeypatch, controlnet=net
    )
    small = _shrunk(reference, 64)
    wanted = pipe(
        image=torch.from_numpy(small).permute(2, 0, 1)[None],
        control_image=Image.fromarray((small * 255.0).astype(np.uint8)),
        control_mode=1,
        controlnet_conditioning_scale=0.6,
        control_guidance_start=0.0,
        control_guidance_end=0.65,
        prompt_embeds=torch.from_numpy(tokens)[None],
        pooled_prompt_embeds=torch.from_numpy(pooled)[None],
        height=64,
        width=128,
        strength=0.95,
        num_inference_steps=4,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(42),
        output_type="np",
    ).images[0]
    # 4e-6 apart, as sums are taken in another order; another seed's are so by over 1e-2.
    np.testing.assert_allclose(np.load(run.path / "flux" / "bundle.npy"), wanted, atol=1e-4)


def _shrunk(bundle: np.ndarray, height: int) -> np.ndarray:
    """A bundle of whole tiles at another size, as flux resizes its input."""
    from stages.flux.controls import resize_bundle

    assert len(split(bundle)[0]) == 4
    return resize_bundle(bundle, height)


@pytest.mark.slow
def test_optimized_12gb_runs_all_its_steps(tiny_models: Path, tmp_path: Path) -> None:
    run = run_profile(tiny_models, tmp_path, "optimized_12gb", *sets("optimized_12gb", SIZES))
    assert_whole(run, NINE)
    assert_params(run, OPTIMIZED)
    assert not run.manifest["nodes"]["flux"]["degraded"]
    caption = (run.path / "caption" / "caption.txt").read_text()
    assert (run.path / "prompt" / "prompt.txt").read_text() == caption


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["full_12gb", "multiview_only", "redux_only"])
def test_the_other_profiles_end_in_a_mesh_too(
    profile: str, tiny_models: Path, tmp_path: Path
) -> None:
    run = run_profile(tiny_models, tmp_path, profile, *sets(profile, SIZES, STEPS))
    left_out = {
        "full_12gb": set(),
        "multiview_only": {"caption", "prompt", "encode", "flux"},
        "redux_only": {"multiview", "reference"},
    }
    assert_whole(run, [node for node in NINE if node not in left_out[profile]])


@pytest.mark.slow
def test_the_next_seed_gives_another_object_and_seed_0_is_one(
    original: Finished, tiny_models: Path
) -> None:
    run = run_profile(
        tiny_models,
        original.path.parents[1],
        "original",
        *("--seed", 0, "--until", "flux"),
        *sets("original", SIZES, STEPS),
    )
    assert run.manifest["seed"] == 0
    before, after = original.digests(), run.digests()
    assert before["preprocess/image.npy"] == after["preprocess/image.npy"]
    assert before["multiview/views.npy"] != after["multiview/views.npy"]
    reused = {name for name, node in run.nodes.items() if node["cached_from"]}
    assert reused == {"preprocess", "caption"}, "encode reads what the seed made of the prompt"
    one, other = (np.load(r.path / "flux" / "bundle.npy") for r in (original, run))
    assert np.abs(one - other).mean() > 0.01


@pytest.mark.slow
def test_cold_processes_write_the_same_bytes_as_warm_ones(
    original: Finished, tiny_models: Path, tmp_path: Path
) -> None:
    assert all(row["warm"] for node in original.nodes.values() for row in node["attempts"])
    run = run_profile(
        tiny_models, tmp_path, "original", "--no-warm", *sets("original", SIZES, STEPS)
    )
    assert not any(row["warm"] for node in run.nodes.values() for row in node["attempts"])
    assert run.digests() == original.digests()


@pytest.mark.slow
def test_a_run_killed_while_flux_computes_goes_on_there(
    original: Finished, tiny_models: Path, tmp_path: Path
) -> None:
    words = ["--profile", "original", "--device", "cpu", *sets("original", SIZES, STEPS)]
    process = subprocess.Popen(
        command("run", PICTURE, "--output", "out", *words),
        cwd=tmp_path,
        env=environment(tiny_models),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    run = Finished(tmp_path / "out")
    deadline = time.monotonic() + PATIENCE
    # A node is called done once its files are on the disk, a moment after its reader has started.
    while not (_started(run.path, "flux") and run.nodes["reference"]["state"] == "done"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE)
    before = run.pids()
    finished = [name for name, node in run.nodes.items() if node["state"] == "done"]
    assert "flux" not in finished
    assert {"preprocess", "multiview", "reference", "encode"} <= set(finished)

    done = orchestrate(tiny_models, tmp_path, "resume", "out")
    assert done.returncode == 0, done.stderr
    assert {name: run.pids()[name] for name in finished} == {n: before[n] for n in finished}
    assert run.digests() == original.digests()
    assert leftovers(run.path) == []


def _started(run: Path, node: str) -> bool:
    file = run / "events.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return any(e["event"] == "started" and e["node"] == node for e in events)


@pytest.mark.slow
def test_a_batch_loads_every_model_once_and_runs_all_the_references_steps(
    tiny_models: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("robot", "mug"):
        with Image.open(PICTURE.with_name(f"{name}.png")) as image:
            image.resize((256, 256)).save(pictures / f"{name}.png")
    done = orchestrate(
        tiny_models,
        tmp_path,
        *("batch", pictures, "--profile", "original", "--device", "cpu", "--output", "out"),
        *sets("original", SIZES),
    )
    assert done.returncode == 0, done.stderr
    robot, mug = (Finished(tmp_path / "out" / name) for name in ("robot", "mug"))
    for run in (robot, mug):
        assert_whole(run, NINE)
        assert run.params("multiview")["steps"] == 50
        assert run.params("flux")["steps"] == 20
        assert run.params("isomer")["stage2_steps"] == 50
    assert robot.pids() == mug.pids(), "one process serves both pictures"
    assert robot.digests()["flux/bundle.npy"] != mug.digests()["flux/bundle.npy"]
