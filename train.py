#!/usr/bin/env python3
"""Train a data set, a network and an optimizer over seeds: ``python train.py --help`` explains."""

from experiments.cli import start
from experiments.train import main

if __name__ == "__main__":
    start(main)
