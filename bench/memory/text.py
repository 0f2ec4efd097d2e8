"""What encoding a prompt costs: T5-XXL, CLIP-L and Redux at full size, by placement and dtype.

    python -m bench.memory.text [--device cuda:0] [--size full|tiny] [--folder DIR]
    python -m bench.memory.text --int8

The first form writes random weights of the real shapes (full: 11 GB) to DIR, or to a temporary
folder, and runs the encode stage on two pictures in a fresh process for each case:

load     seconds until the stage is ready (weights are mapped, resident also copies them)
first    seconds for the first picture; next: for the second
vram     peak that torch reserved, GiB, without the CUDA context
host     peak anonymous memory of the process above what it had after its imports, GiB; pages of
         the weight files are not in it, since the system can drop them
error    relative L2 distance of the tokens from the first case's

The second form times one 4096 x 4096 layer of the prompt stage for several numbers of rows, as
bfloat16, and with 8-bit weights in both of its ways. Where "unpacked" beats "packed" is where
stages.prompt.int8.PACKED_ROWS belongs.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

ENCODE_HEADER = ("device", "dtype", "placement", "load", "first", "next", "vram", "host", "error")


@dataclass(frozen=True)
class Case:
    """One way to run the stage."""

    device: str
    dtype: str
    placement: str


def build(folder: Path, full: bool) -> None:
    """Random weights under their catalogue names; tokenizers are the tests' tiny ones."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        SiglipVisionConfig,
        SiglipVisionModel,
        T5Config,
        T5EncoderModel,
    )

    from devtools.tiny.encoders import build_flux_text, build_redux
    from stages.encode.redux import ReduxEmbedder

    text, redux = build_flux_text(folder), build_redux(folder)
    if not full:
        return
    # google/t5-v1_1-xxl, openai/clip-vit-large-patch14, google/siglip-so400m-patch14-384.
    t5 = T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=32128,
                  feed_forward_proj="gated-gelu")  # fmt: skip
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12,
                          num_hidden_layers=12, vocab_size=49408)  # fmt: skip
    siglip = SiglipVisionConfig(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27,
                                num_attention_heads=16, image_size=384, patch_size=14)  # fmt: skip
    fill(T5EncoderModel, t5, text / "text_encoder_2")
    fill(CLIPTextModel, clip, text / "text_encoder")
    fill(SiglipVisionModel, siglip, redux / "image_encoder")
    extractor = redux / "feature_extractor" / "preprocessor_config.json"
    settings = json.loads(extractor.read_text())
    settings["size"] = {"height": 384, "width": 384}
    extractor.write_text(json.dumps(settings))
    from safetensors.torch import save_file

    embedder = {name: noise(p.shape) for name, p in ReduxEmbedder(1152, 4096).named_parameters()}
    save_file(embedder, redux / "image_embedder" / "diffusion_pytorch_model.safetensors")


def fill(cls: Any, config: Any, folder: Path) -> None:
    """Put a model of this config into `folder`; its weights are noise in bfloat16."""
    import torch
    from safetensors.torch import save_file

    for old in folder.glob("*.safetensors*"):
        old.unlink()
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = cls(config)
    state = {}
    for name, parameter in model.named_parameters():
        if name == "encoder.embed_tokens.weight":  # T5's other name for shared.weight
            continue
        is_norm = "norm" in name and name.endswith("weight")
        state[name] = torch.ones(parameter.shape) if is_norm else noise(parameter.shape)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def noise(shape: Any) -> Any:
    """Normal numbers of a layer's usual size; a repeated megabyte of them is random enough."""
    import torch

    count = torch.Size(shape).numel()
    generator = torch.Generator().manual_seed(count % 997)
    piece = torch.randn(min(count, 1 << 20), generator=generator)
    scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.01
    repeated = (piece * scale).to(torch.bfloat16).repeat(-(-count // len(piece)))
    return repeated[:count].reshape(shape).clone()


def anonymous_gib() -> float:
    """Memory of this process that is backed by no file (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 2**20
    return float("nan")


class Peak(threading.Thread):
    """The highest `anonymous_gib` while it runs, looked at 50 times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = 0.0
        self._stop_event = threading.Event()

    def run(self) -> None:
        while not self._stop_event.wait(0.02):
            self.value = max(self.value, anonymous_gib())

    def stop(self) -> float:
        self._stop_event.set()
        self.join()
        return self.value


def run_case(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """In this process: the figures of one case; the tokens go to a file beside the weights."""
    import numpy as np
    import torch

    from stages.contract import Context
    from stages.encode.stage import Encode, EncodeParams

    for module in Encode.preload:
        importlib.import_module(module)
    params = EncodeParams(
        placement=case.placement,
        text_weights=str(folder / "flux1-dev-text"),
        redux_weights=str(folder / "flux1-redux"),
    )
    context = Context(device=case.device, dtype=case.dtype, threads=threads)
    on_card = case.device != "cpu"
    if on_card:
        torch.zeros(1, device=case.device)
    before = anonymous_gib()
    peak = Peak()
    peak.start()
    marks = [time.perf_counter()]
    stage = Encode(params)
    stage.load(context)
    marks.append(time.perf_counter())
    for seed in (0, 1):
        picture = np.random.default_rng(seed).integers(0, 256, (1024, 1024, 3), np.uint8)
        outputs = stage.run({"prompt": "a red vase, " * 20, "image": picture}, context)
        marks.append(time.perf_counter())
    host = peak.stop() - before
    np.save(folder / "tokens.npy", outputs["prompt_embeds"])
    vram = torch.cuda.max_memory_reserved() / 2**30 if on_card else 0.0
    load, first, following = (end - begin for begin, end in itertools.pairwise(marks))
    return {"load": load, "first": first, "next": following, "vram": vram, "host": host}


def encode_table(device: str, folder: Path, full: bool, threads: int) -> None:
    import numpy as np

    cases = [Case("cpu", "float32", "streamed"), Case("cpu", "bfloat16", "streamed")]
    if device != "cpu":
        cases = [Case(device, "bfloat16", how) for how in ("resident", "streamed")] + cases
    build(folder, full)
    rows, first = [], None
    for case in cases:
        command = [
            sys.executable,
            "-m",
            "bench.memory.text",
            "--folder",
            str(folder),
            "--threads",
            str(threads),
        ]
        command += ["--case", case.device, case.dtype, case.placement]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        tokens = np.load(folder / "tokens.npy")
        first = tokens if first is None else first
        error = float(np.linalg.norm(tokens - first) / np.linalg.norm(first))
        figures = [f"{found[key]:.2f}" for key in ("load", "first", "next", "vram", "host")]
        rows.append((case.device, case.dtype, case.placement, *figures, f"{error:.4f}"))
    print_table(ENCODE_HEADER, rows)


def int8_table(threads: int) -> None:
    import torch
    from torch import nn

    from stages.prompt import int8

    torch.set_num_threads(threads)
    linear = nn.Linear(4096, 4096, bias=False).to(torch.bfloat16)
    quantized = int8.Int8Linear(linear)
    rows = []
    for count in (1, 2, 4, 8, 16, 32, 64, 400):
        x = torch.randn(count, 4096).to(torch.bfloat16)
        times = [milliseconds(lambda x=x: linear(x))]
        for limit in (count, 0):
            int8.PACKED_ROWS = limit
            times.append(milliseconds(lambda x=x: quantized(x)))
        rows.append((str(count), *(f"{t:.2f}" for t in times)))
    print_table(("rows", "bfloat16 ms", "packed ms", "unpacked ms"), rows)


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from orchestrator.system.text import format_table

    print(format_table(header, rows))


def milliseconds(compute: Any) -> float:
    """The fastest of seven, after one that does not count."""
    import torch

    best = float("inf")
    with torch.inference_mode():
        for turn in range(8):
            began = time.perf_counter()
            compute()
            if turn:
                best = min(best, time.perf_counter() - began)
    return best * 1000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--folder", type=Path, help="where the random weights go and stay")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--int8", action="store_true", help="the table of 8-bit layers instead")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.int8:
        int8_table(arguments.threads)
    elif arguments.case:
        case = Case(*arguments.case)
        print(json.dumps(run_case(case, arguments.folder, arguments.threads)))
    else:
        with tempfile.TemporaryDirectory(prefix="bench-text-") as temporary:
            folder = arguments.folder or Path(temporary)
            encode_table(arguments.device, folder, arguments.size == "full", arguments.threads)


if __name__ == "__main__":
    main()
