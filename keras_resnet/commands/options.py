"""Options that several commands share."""

from __future__ import annotations


def add_data_dir(add):
    """Where datasets of tensorflow-datasets come from."""
    add("--data-dir", metavar="FOLDER", help="where the datasets of tensorflow-datasets are")
    add("--no-download", action="store_true", help="do not fetch a dataset that is missing")
