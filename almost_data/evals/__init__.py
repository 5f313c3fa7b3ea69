"""Benchmarks of the paper, on any model: one file each, beside the baselines that expose shortcuts.

A benchmark makes dialogues of its items, has a `Subject` score them, and returns a `Result`: lines with
intervals, and what was asked for each item. Texts of a benchmark stay out of it, but for their ids.
"""

HHH = "HuggingFaceH4/hhh_alignment@main"
"""Static HHH. Its items are held to a checksum, whatever the commit."""
TRUTHFULQA = "truthfulqa/truthful_qa@741b8276f2d1982aa3d5b832d3ee81ed3b896490"
HH_RLHF = "Anthropic/hh-rlhf@09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
HELPFUL_BASE = "helpful-base"
"""The part of HH-RLHF that the paper judges reward models on."""
