"""Chunks of a PNG file."""

import struct


def chunks(png: bytes) -> set[bytes]:
    chunks_read, at = set(), 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        chunks_read.add(png[at + 4 : at + 8])
        at += 12 + length
    return chunks_read
