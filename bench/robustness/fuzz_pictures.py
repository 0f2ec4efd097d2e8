"""Damaged pictures for `bench/robustness/fuzz.py`: decoded, and what can be decoded goes through
preprocess.

A worker process answers for one picture after another; one that dies is started again.
"""

from __future__ import annotations

import io
import random
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 20.0
"""Of CPU time, for one picture."""
MEMORY = 1536 << 20
"""Of resident memory: what the stage promises (`stages/preprocess/limits.py`)."""


@dataclass(frozen=True)
class Seen:
    """What became of a case. how: "fine" or "refused", else it is a finding and `why` says more."""

    how: str
    why: str = ""
    seconds: float = 0.0
    memory: int = 0


def corpus() -> tuple[bytes, ...]:
    """Small whole pictures of each format and mode that is read."""
    import numpy as np
    from PIL import Image

    from devtools.pictures import cutout, disc, file_of, on_white, ring

    small = on_white(ring(48))
    clear = cutout(disc(40))
    noise = np.random.default_rng(0).integers(0, 255, (32, 40, 3)).astype(np.uint8)
    deep = Image.fromarray((np.linspace(0, 65535, 32 * 32).reshape(32, 32)).astype(np.uint16))
    files = [
        *(file_of(small, name) for name in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "AVIF")),
        *(file_of(clear, name) for name in ("PNG", "WEBP", "TIFF", "AVIF", "JPEG2000")),
        *(file_of(small.convert(mode)) for mode in ("1", "L", "LA", "P")),
        *(file_of(small, "JPEG", progressive=True, quality=q) for q in (30, 95)),
        *(file_of(small, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "packbits", "raw")),
        file_of(small, "GIF", save_all=True, append_images=[clear.convert("P")] * 3),
        file_of(clear, "PNG", save_all=True, append_images=[clear] * 2),
        file_of(clear, "WEBP", save_all=True, append_images=[clear] * 2),
        file_of(small.convert("CMYK"), "JPEG"),
        file_of(small.convert("RGB"), "JPEG2000"),
        file_of(deep),
        file_of(deep, "TIFF"),
        file_of(Image.fromarray(noise), "PNG", exif=_turned()),
        file_of(Image.fromarray(noise), "JPEG", exif=_turned()),
        file_of(small.convert("L"), "TIFF"),
    ]
    heic = _heic(small)
    return (*files, *([heic] if heic else []))


def _turned() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _heic(image: Any) -> bytes:
    """b"" where the package is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return b""
    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    image.save(stream, "HEIF")
    return stream.getvalue()


def case(seed: int, number: int, files: tuple[bytes, ...]) -> bytes:
    """Damaged picture `number`."""
    from bench.robustness.mutations import picture

    rng = random.Random(f"{seed} picture {number}")
    return picture(rng, files[number % len(files)], files)


def look(data: bytes, threads: int = 1) -> Seen:
    """Do with a picture what a run does until its object is cut out."""
    from orchestrator.commands.pictures import require_picture
    from orchestrator.errors import KissError
    from stages.contract import BadInput, Context
    from stages.preprocess.stage import Preprocess, PreprocessParams

    began = time.process_time()
    _forget_peak()
    try:
        require_picture(Path("x.png"), data)
        stage = Preprocess(PreprocessParams())
        made = stage.run({"input_image": data}, Context(threads=threads))
        how, why = "fine", _wrong(made)
    except (BadInput, KissError) as error:
        how, why = "refused", "" if str(error) else "nothing is said"
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        how, why = "error", f"{type(error).__name__}: {error}"
    seconds, memory = time.process_time() - began, _peak()
    if seconds > SECONDS:
        why = f"{seconds:.1f} s of CPU time"
    elif memory > MEMORY:
        why = f"{memory >> 20} MiB"
    return Seen("error" if why else how, why, seconds, memory)


def _wrong(made: Any) -> str:
    image, alpha = made["image"], made["alpha"]
    good = image.shape == (*alpha.shape[:2], 3) and alpha.shape[2] == 1 and image.dtype == "uint8"
    return "" if good else f"shapes {image.shape} and {alpha.shape}"


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def serve(connection: Any, seed: int) -> None:
    """In the worker: numbers come in, `Seen`s go out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    files = corpus()
    while (number := connection.recv()) is not None:
        connection.send(look(case(seed, number, files)))


def numbers_to_pictures(seed: int, numbers: Iterator[int]) -> Iterator[tuple[int, Seen]]:
    """Look at the pictures of these numbers."""
    import multiprocessing

    spawn = multiprocessing.get_context("spawn")
    worker: Any = None
    for number in numbers:
        if worker is None:
            ours, theirs = spawn.Pipe()
            worker = spawn.Process(target=serve, args=(theirs, seed), daemon=True)
            worker.start()
            theirs.close()
        ours.send(number)
        seen = Seen("error", f"hang: no answer after {SECONDS * 6:g} s")
        alive = True
        try:
            if ours.poll(SECONDS * 6):
                seen = ours.recv()
            else:
                worker.kill()
                alive = False
        except EOFError:
            worker.join()
            seen, alive = Seen("error", f"crash: exit code {worker.exitcode}"), False
        if not alive:
            worker.join()
            ours.close()
            worker = None
        yield number, seen
    if worker is not None:
        ours.send(None)
        worker.join()
