"""Attacks on `vggt serve` as checks: see the file `run` in this folder."""
