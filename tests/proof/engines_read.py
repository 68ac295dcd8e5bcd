"""One reader of another project over a dataset: all values, and filters with and without what lets it skip row groups.

    PYTHON tests/proof/engines_read.py READER PLAN      PLAN is what engines.py wrote; the answer is JSON on the standard output

Owns: how each reader is asked, and values in one form for all of them.
Does not own: which readers there are, the dataset, what is right (see engines.py). Runs in environments that have the reader and pyarrow, nothing else.
"""
import json
import struct
import sys

import pyarrow

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
NULL = "__HIVE_DEFAULT_PARTITION__"


def scalar(array):
    """Returns the values of a column in one form: whole numbers and nanoseconds as integers, floating-point ones by their bits, bytes in hexadecimal."""
    kind = array.type
    if isinstance(kind, pyarrow.ExtensionType):
        return scalar(array.storage)
    types = pyarrow.types
    if types.is_dictionary(kind):
        return scalar(array.cast(kind.value_type))
    if types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind):
        unit, width = UNITS[kind.unit], pyarrow.int32() if types.is_time32(kind) else pyarrow.int64()
        return [None if value is None else value * unit for value in array.cast(width).to_pylist()]
    if types.is_date(kind):
        return scalar(array.cast(pyarrow.date32()).cast(pyarrow.int32()))
    if types.is_floating(kind):
        return [None if value is None else "NaN" if value != value else struct.pack(">d", value).hex() for value in array.to_pylist()]
    if types.is_decimal(kind):
        return [None if value is None else plain(f"{value:f}") for value in array.to_pylist()]
    if types.is_map(kind):
        keys, items, offsets = scalar(array.keys), scalar(array.items), array.offsets.to_pylist()
        return nested(array, lambda at: sorted([keys[i], items[i]] for i in range(offsets[at], offsets[at + 1])))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        values, offsets = scalar(array.values), array.offsets.to_pylist()
        return nested(array, lambda at: [values[i] for i in range(offsets[at], offsets[at + 1])])
    if types.is_struct(kind):
        fields = {field.name: scalar(array.field(at)) for at, field in enumerate(kind)}
        return nested(array, lambda at: {name: values[at] for name, values in fields.items()})
    return [value.hex() if isinstance(value, bytes) else value for value in array.to_pylist()]


def plain(text):
    return text.rstrip("0").rstrip(".") if "." in text else text


def nested(array, value):
    return [value(at) if valid else None for at, valid in enumerate(array.is_valid().to_pylist())]


def columns(table):
    order = sorted(range(table.num_rows), key=table.column("id").to_pylist().__getitem__)
    found = {name: [value for chunk in array.chunks for value in scalar(chunk)] for name, array in zip(table.column_names, table.columns)}
    return {name: [values[row] for row in order] for name, values in found.items()}


def ids(table):
    return sorted(value for value in table.column(table.column_names[0]).to_pylist())


class Duckdb:
    def __init__(self, plan):
        import duckdb
        self.connection = duckdb.connect()
        self.plan = plan
        self.connection.execute(f"CREATE VIEW events AS FROM read_parquet('{plan['values']}/*.parquet')")
        self.connection.execute(f"CREATE VIEW hive AS FROM read_parquet('{plan['hive']}/**/*.parquet', hive_types = {{region: VARCHAR, day: DATE}})")

    def table(self, sql):
        result = self.connection.execute(sql)
        return result.to_arrow_table() if hasattr(result, "to_arrow_table") else result.fetch_arrow_table()

    def whole(self):
        return self.table("SELECT * FROM events")

    def hive(self):
        return self.table("SELECT id, region, day FROM hive")

    def filter(self, where, skip):
        self.connection.execute("CREATE TABLE IF NOT EXISTS loaded AS FROM events")
        return self.table(f"SELECT id FROM {'events' if skip else 'loaded'} WHERE {where}")


class Arrow:
    """pyarrow has no SQL: a condition is written as its expression."""

    def __init__(self, plan):
        import pyarrow.dataset as dataset
        self.events = dataset.dataset(plan["files"], format="parquet")
        flavor = dataset.partitioning(pyarrow.schema([("region", pyarrow.string()), ("day", pyarrow.date32())]), flavor="hive")
        self.partitioned = dataset.dataset(plan["hive_files"], format="parquet", partitioning=flavor, partition_base_dir=plan["hive"])

    def whole(self):
        return self.events.to_table()

    def hive(self):
        return self.partitioned.to_table(columns=["id", "region", "day"])

    def filter(self, where, skip):
        condition = expression(where)
        return self.events.to_table(columns=["id"], filter=condition) if skip else self.events.to_table().filter(condition).select(["id"])


class Pandas:
    def __init__(self, plan):
        import pandas
        self.plan, self.pandas = plan, pandas

    def read(self, **options):
        return self.pandas.read_parquet(self.plan["files"], dtype_backend="pyarrow", **options)

    def whole(self):
        return pyarrow.Table.from_pandas(self.read(), preserve_index=False)

    def hive(self):
        import pyarrow.dataset as dataset
        flavor = dataset.partitioning(pyarrow.schema([("region", pyarrow.string()), ("day", pyarrow.date32())]), flavor="hive")
        frames = self.pandas.read_parquet(self.plan["hive"], dtype_backend="pyarrow", partitioning=flavor)
        return pyarrow.Table.from_pandas(frames[["id", "region", "day"]], preserve_index=False)

    def filter(self, where, skip):
        if skip:
            return pyarrow.Table.from_pandas(self.read(filters=expression(where), columns=["id"]), preserve_index=False)
        return pyarrow.Table.from_pandas(self.read(), preserve_index=False).filter(expression(where)).select(["id"])


class Polars:
    def __init__(self, plan):
        import polars
        self.polars = polars
        self.events = polars.scan_parquet(f"{plan['values']}/*.parquet")
        self.partitioned = polars.scan_parquet(f"{plan['hive']}/**/*.parquet", hive_schema={"region": polars.String, "day": polars.Date})

    def whole(self):
        return self.events.collect().to_arrow()

    def hive(self):
        return self.partitioned.select("id", "region", "day").collect().to_arrow()

    def filter(self, where, skip):
        condition = self.polars.sql_expr(where)
        return (self.events.filter(condition) if skip else self.events.collect().lazy().filter(condition)).select("id").collect().to_arrow()


class Datafusion:
    def __init__(self, plan):
        import datafusion
        self.contexts = []
        for skip in ("false", "true"):
            config = datafusion.SessionConfig()
            for key in ("pruning", "enable_page_index", "pushdown_filters", "bloom_filter_on_read"):
                config = config.set(f"datafusion.execution.parquet.{key}", skip)
            context = datafusion.SessionContext(config)
            context.register_parquet("events", plan["values"])
            context.register_parquet("hive", plan["hive"] + "/", table_partition_cols=[("region", pyarrow.string()), ("day", pyarrow.date32())])
            self.contexts.append(context)

    def whole(self):
        return self.contexts[1].sql("SELECT * FROM events").to_arrow_table()

    def hive(self):
        return self.contexts[1].sql("SELECT id, region, day FROM hive").to_arrow_table()

    def filter(self, where, skip):
        return self.contexts[skip].sql(f"SELECT id FROM events WHERE {where.replace('= -0.0', '= (-0.0)')}").to_arrow_table()


class Chdb:
    def __init__(self, plan):
        self.plan = plan

    def table(self, sql, settings=""):
        import chdb
        answer = chdb.query(f"{sql} SETTINGS output_format_arrow_string_as_string = 1, session_timezone = 'UTC'{settings}", "Arrow").bytes()
        return pyarrow.ipc.open_file(answer).read_all()

    def whole(self):
        return self.table(f"SELECT * FROM file('{self.plan['values']}/*.parquet')")

    def hive(self):
        return self.table(f"SELECT id, region, day FROM file('{self.plan['hive']}/*/*/*.parquet', 'Parquet', "
                          "'id Int64, region Nullable(String), day Date')", ", use_hive_partitioning = 1")

    def filter(self, where, skip):
        keys = ("input_format_parquet_filter_push_down", "input_format_parquet_bloom_filter_push_down", "input_format_parquet_page_filter_push_down")
        return self.table(f"SELECT id FROM file('{self.plan['values']}/*.parquet') WHERE {where}", "".join(f", {key} = {int(skip)}" for key in keys))


class Spark:
    def __init__(self, plan):
        from pyspark.sql import SparkSession
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
        builder = builder.config("spark.driver.memory", "1g").config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")
        self.session.read.parquet(plan["spark"]).createOrReplaceTempView("events")
        self.session.read.parquet(plan["hive"]).createOrReplaceTempView("hive")

    def whole(self):
        return self.session.sql("SELECT * FROM events").toArrow()

    def hive(self):
        return self.session.sql("SELECT id, region, to_date(day) AS day FROM hive").toArrow()

    def filter(self, where, skip):
        self.session.conf.set("spark.sql.parquet.filterPushdown", str(skip).lower())
        return self.session.sql(f"SELECT id FROM events WHERE {where}").toArrow()


def expression(where):
    """Returns a condition as an expression of pyarrow: `NOT (c op v)` or `c op v`."""
    import pyarrow.compute as compute
    negated = where.startswith("NOT (")
    column, operator, value = where.removeprefix("NOT (").removesuffix(")" if negated else "").split(" ", 2)
    field = compute.field(column)
    literal = compute.scalar(value.strip("'") if value.startswith("'") else float(value) if "." in value else int(value))
    found = {">": field > literal, "<": field < literal, "=": field == literal, "<>": field != literal, ">=": field >= literal, "<=": field <= literal}[operator]
    return ~found if negated else found


def main(reader, plan):
    plan = json.load(open(plan))
    answer = {"filters": {}}
    asked = {kind.__name__.lower(): kind for kind in (Duckdb, Arrow, Pandas, Polars, Datafusion, Chdb, Spark)}[reader](plan)

    def attempt(what, ask):
        try:
            answer[what] = ask()
        except Exception as error:  # A reader's own kinds of errors, of seven projects.
            answer[what] = {"error": f"{type(error).__name__}: {str(error)[:400]}"}

    attempt("whole", lambda: columns(asked.whole()))
    attempt("hive", lambda: columns(asked.hive()))
    for where in plan["filters"]:
        for skip in (False, True):
            attempt("one", lambda: ids(asked.filter(where, skip)))
            answer["filters"].setdefault(where, []).append(answer.pop("one"))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
