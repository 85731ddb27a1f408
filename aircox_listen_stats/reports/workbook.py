"""XLSX: the tables as sheets with real numbers and dates, and what their columns mean on the last one.

A row is written to disk as it is read. Sheets have no zones: instants stand on
the clock of their column, and columns in ``_utc`` in UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from .definitions import COLUMNS, DEFINITIONS
from .tables import Row, Table

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

SHEET_ROWS = 1_048_576
"""Rows of one sheet, its heading included (Excel's specifications and limits)."""

SHEET_NAME_CHARACTERS = 31
"""Excel's limit for the name of a sheet."""

CELL_CHARACTERS = 32_767
"""Excel's limit for the text of a cell."""

WIDEST = 40
"""Characters of a column's width: a longer text is read in its cell."""

NARROWEST = 12
"""Characters: the width of a date."""

# Text stays text, whatever it begins with: no formula, no number, no link.
OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
}


def write_workbook(file: IO[bytes] | str, tables: Sequence[Table], *, sheet_rows: int = SHEET_ROWS) -> None:
    """Writes the tables into ``file``; one that is too long for a sheet goes on in the next."""
    with xlsxwriter.Workbook(file, OPTIONS) as book:
        forms = {
            dt.datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            dt.date: book.add_format({"num_format": "yyyy-mm-dd"}),
            str: book.add_format({"bold": True}),
        }
        for table in tables:
            _write_table(book, table, forms, sheet_rows)
        _write_table(book, _meanings(tables), forms, sheet_rows)


def _write_table(book: xlsxwriter.Workbook, table: Table, forms: Mapping[type, Format], sheet_rows: int) -> None:
    rest = iter(table.rows)
    following = next(rest, None)
    number = 1
    while following is not None or number == 1:
        sheet = book.add_worksheet(_sheet_name(table.name, number))
        _write_heading(sheet, table.header, forms)
        for place in range(1, sheet_rows):
            if following is None:
                break
            _write_row(sheet, place, following, forms)
            following = next(rest, None)
        number += 1


def _write_heading(sheet: Worksheet, header: Sequence[str], forms: Mapping[type, Format]) -> None:
    for place, name in enumerate(header):
        sheet.set_column(place, place, max(NARROWEST, min(len(name) + 2, WIDEST)))
    sheet.freeze_panes(1, 0)
    sheet.repeat_rows(0)
    for place, name in enumerate(header):
        sheet.write_string(0, place, name, forms[str])


def _write_row(sheet: Worksheet, place: int, row: Row, forms: Mapping[type, Format]) -> None:
    for column, value in enumerate(row):
        match value:
            case None:
                continue
            case bool():
                sheet.write_boolean(place, column, value)
            case int() | float():
                sheet.write_number(place, column, value)
            case dt.datetime():
                sheet.write_datetime(place, column, value.replace(tzinfo=None), forms[dt.datetime])
            case dt.date():
                sheet.write_datetime(place, column, value, forms[dt.date])
            case _:
                sheet.write_string(place, column, str(value)[:CELL_CHARACTERS])


def _sheet_name(name: str, number: int) -> str:
    suffix = f" {number}" if number > 1 else ""
    return name[: SHEET_NAME_CHARACTERS - len(suffix)] + suffix


def _meanings(tables: Sequence[Table]) -> Table:
    names = dict.fromkeys(name for table in tables for name in table.header if name in COLUMNS)
    return Table(name="definitions", header=("column", "figure", "definition"), rows=_meaning_rows(names))


def _meaning_rows(names: Mapping[str, None]) -> Iterator[Row]:
    for name in names:
        meant = DEFINITIONS[COLUMNS[name]]
        yield name, str(meant.label), str(meant.text)
