"""Weights in three tiers: on the card, in pinned host memory, in the file (docs/streaming.md).

tiers     which block lives where, from sizes and budgets            (no torch)
cost      predicted seconds per evaluation, from bytes and rates     (no torch)
order     which block comes next                                     (no torch)
source    safetensors files as byte ranges                           (no torch)
reader    byte ranges into host memory, by several threads           (no torch)
readahead blocks of the file tier, read before they are needed
pinned    the one registered host buffer
layout    where a block's tensors lie in file, host and slot
delta     low-rank changes (LoRA) merged into weights
eight_bit numbers in eight bits with a scale for each row
eight_bit_linear, fused_rounding, triton_rounding   layers that multiply so, fast on a card
images    blocks read one after another, to be worked on
filling   from an image of a block to finished weights in a slot
lanes     the side stream, or nothing on a CPU
once      layers whose inputs are known beforehand: computed, not streamed
net       a network to stream, and what it has besides blocks
streamer  hooks that give each block its weights when it runs
models    `stream(nets, ...)`: what stages call
"""
