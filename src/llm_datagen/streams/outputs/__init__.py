"""Outputs that are made from a stream that has ended: files of other formats, in parts that are whole or not there."""

from llm_datagen.streams.outputs.export import Exported, check_fit, export_rows
from llm_datagen.streams.outputs.folder_exports import exports_in
from llm_datagen.streams.outputs.options import ExportOptions
from llm_datagen.streams.outputs.places import place_of
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.outputs.unfit_rows import UnfitRows
from llm_datagen.streams.outputs.work import Work, check_parts

__all__ = [
    "ExportOptions",
    "Exported",
    "Target",
    "UnfitRows",
    "Work",
    "check_fit",
    "check_parts",
    "export_rows",
    "exports_in",
    "place_of",
]
