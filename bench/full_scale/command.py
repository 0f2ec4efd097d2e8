"""The command line of the bench."""
from __future__ import annotations
import argparse, time
from pathlib import Path
import torch
from bench.full_scale import checkpoints
from bench.full_scale.sizes import PUBLISHED, TINY

def main():
    p=argparse.ArgumentParser(); p.add_argument("folder",type=Path); a=p.parse_args()
    maker=checkpoints.Maker(TINY, torch.device("cpu"))
    for n in checkpoints.RECIPES:
        t=time.time(); print(n, checkpoints.build(n,[a.folder],maker,0), round(time.time()-t,2), flush=True)
    return 0
