"""Does a plan with dask.dataframe, a partition at a time: runs in a task's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import dask
import dask.dataframe
import pandas
import pyarrow
import pyarrow.parquet

from cluster_ai.sizes import counted
from cluster_ai.tasks.data.steps import Aggregate, Convert, Filter, Plan, Select, Step

LIMIT = 200 << 20  # bytes of a result
BLOCK = 64 << 20  # bytes of a CSV file that are one partition
_DTYPES = {"integer": "Int64", "number": "Float64", "text": "string", "boolean": "boolean"}
_ALL = "cluster_ai_all_rows"


class DataError(Exception):
    """The files, or the steps on them, can't be: trying again can't help."""


def run(plan: Plan, root: Path, out: Path, cpu: int, report: Callable[[float, str], None]) -> dict[str, Any]:
    """Writes the result to `out`; returns its rows and columns. Raises DataError."""
    with _told("payload.input"):
        table = _read(plan, found(plan, root))
    for number, step in enumerate(plan.steps):
        with _told(f"payload.steps[{number}]"):
            table = apply(table, step)
    writer = _WRITERS[plan.output](out)
    rows, count = 0, table.npartitions
    with _told("the data"), dask.config.set(scheduler="threads", num_workers=cpu):
        try:
            for number, lazy in enumerate(table.partitions):
                report(number / count, f"part {number + 1} of {count}, {counted(rows, 'row')} so far")
                part = lazy.compute()
                writer.write(part)
                rows += len(part)
                if out.stat().st_size > LIMIT:
                    raise DataError(f"the result has more than {LIMIT >> 20} MiB: select, filter or aggregate more")
        finally:
            writer.close()
    return {"rows": rows, "columns": [str(name) for name in table.columns]}


def found(plan: Plan, root: Path) -> list[Path]:
    """The files, in order. Raises DataError: none, or a link that leads out of the data folder."""
    whole = root.resolve()
    paths: list[Path] = []
    for pattern in plan.input:
        here = sorted(root.glob(pattern))
        if not here:
            raise DataError(f"there is no {pattern} in this worker's data folder")
        for path in here:
            if not path.resolve().is_relative_to(whole):
                raise DataError(f"{path.relative_to(root)} leads out of the data folder")
        paths += here
    return list(dict.fromkeys(paths))


def _read(plan: Plan, paths: list[Path]) -> Any:
    names = [str(path) for path in paths]
    if plan.form == ".parquet":
        return dask.dataframe.read_parquet(names if len(names) > 1 else names[0], dtype_backend="numpy_nullable")
    # A part's types are those of the file's beginning: a column that is to be converted is read as what it becomes.
    types = {it.column: _DTYPES[it.to] for it in plan.steps if isinstance(it, Convert) and it.to in _DTYPES}
    return dask.dataframe.read_csv(names, blocksize=BLOCK, dtype=types, dtype_backend="numpy_nullable")


def apply(table: Any, step: Step) -> Any:
    """Raises DataError, and what pandas does of a column that a step doesn't suit."""
    for name in _columns(step):
        if name not in table.columns:
            raise DataError(f"there is no column {name!r}; there are: {', '.join(map(str, table.columns))}")
    if isinstance(step, Select):
        return table[list(step.columns)]
    if isinstance(step, Filter):
        return table[_kept(table[step.column], step)]
    if isinstance(step, Convert):
        column = table[step.column]
        made = dask.dataframe.to_datetime(column) if step.to == "date" else column.astype(_DTYPES[step.to])
        return table.assign(**{step.column: made})
    return _aggregated(table, step)


def _columns(step: Step) -> tuple[str, ...]:
    if isinstance(step, Select):
        return step.columns
    return (*step.by, *(it for it, _ in step.of)) if isinstance(step, Aggregate) else (step.column,)


def _kept(column: Any, step: Filter) -> Any:
    if step.comparison in ("missing", "present"):
        return column.isna() if step.comparison == "missing" else ~column.isna()
    if step.comparison == "in":
        return column.isin(step.value)
    if step.comparison == "contains":
        return column.str.contains(step.value, regex=False).fillna(False)
    value = pandas.Timestamp(step.value) if str(column.dtype).startswith("datetime") else step.value
    compared = {
        "==": column.__eq__,
        "!=": column.__ne__,
        "<": column.__lt__,
        "<=": column.__le__,
        ">": column.__gt__,
        ">=": column.__ge__,
    }[step.comparison](value)
    return compared.fillna(False)


def _aggregated(table: Any, step: Aggregate) -> Any:
    by = list(step.by) or [_ALL]
    if not step.by:
        table = table.assign(**{_ALL: 0})
    functions: dict[str, list[str]] = {}
    for column, function in step.of:
        functions.setdefault(column, []).append(function)
    found = table.groupby(by, dropna=False, sort=True).agg(functions)
    found.columns = [f"{column}_{function}" for column, function in found.columns]
    found = found.reset_index()
    return found if step.by else found[[name for name in found.columns if name != _ALL]]


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What pandas and pyarrow raise over data, in one kind."""
    try:
        yield
    except DataError as e:
        raise DataError(f"{where}: {e}") from e
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, pyarrow.ArrowException) as e:
        cause: BaseException = e
        while cause.__cause__ is not None:  # Dask wraps what the libraries below it say
            cause = cause.__cause__
        lines = [line for line in str(cause).splitlines() if line.strip("+-= ")]
        raise DataError(f"{where}: {' '.join(lines[:3])[:500]}") from e


class _Writer(Protocol):
    def write(self, part: pandas.DataFrame) -> None: ...

    def close(self) -> None: ...


class _Csv:
    def __init__(self, path: Path) -> None:
        self._file, self._header = path.open("w", newline=""), True

    def write(self, part: pandas.DataFrame) -> None:
        part.to_csv(self._file, index=False, header=self._header)
        self._header = False
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Lines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write(self, part: pandas.DataFrame) -> None:
        if len(part):
            part.to_json(self._file, orient="records", lines=True, date_format="iso", force_ascii=False)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def write(self, part: pandas.DataFrame) -> None:
        schema = self._writer.schema if self._writer is not None else None
        table = pyarrow.Table.from_pandas(part, schema=schema, preserve_index=False)
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.close()


_WRITERS: dict[str, Callable[[Path], _Writer]] = {"csv": _Csv, "jsonl": _Lines, "parquet": _Parquet}
