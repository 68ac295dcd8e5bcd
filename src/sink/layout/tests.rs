use super::*;
use arrow::array::*;
use arrow::datatypes::*;
use std::fs::File;

#[test]
fn explore_types() {
    use TimeUnit::*;
    let item = |t| Arc::new(Field::new("item", t, true));
    let types: Vec<DataType> = vec![
        DataType::Null,
        DataType::Float16,
        DataType::Timestamp(Second, None),
        DataType::Timestamp(Millisecond, None),
        DataType::Timestamp(Nanosecond, None),
        DataType::Timestamp(Microsecond, Some("UTC".into())),
        DataType::Date64,
        DataType::Time32(Second),
        DataType::Time32(Millisecond),
        DataType::Time64(Microsecond),
        DataType::Time64(Nanosecond),
        DataType::Duration(Second),
        DataType::Duration(Microsecond),
        DataType::Duration(Nanosecond),
        DataType::Interval(IntervalUnit::YearMonth),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(16),
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::List(item(DataType::Int32)),
        DataType::LargeList(item(DataType::Int32)),
        DataType::ListView(item(DataType::Int32)),
        DataType::FixedSizeList(item(DataType::Int32), 3),
        DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into()),
        DataType::Struct(Fields::empty()),
        DataType::Decimal32(5, 2),
        DataType::Decimal64(15, 2),
        DataType::Decimal128(38, 2),
        DataType::Decimal256(70, 2),
        DataType::Map(
            Arc::new(Field::new(
                "entries",
                DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)].into()),
                false,
            )),
            false,
        ),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8)),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64)),
        DataType::UInt8,
        DataType::UInt64,
        DataType::Int8,
        DataType::Boolean,
    ];
    std::fs::create_dir_all("/tmp/sinkrt/types").unwrap();
    for (i, t) in types.iter().enumerate() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", t.clone(), true)]));
        let batch = match RecordBatch::try_new(schema.clone(), vec![new_null_array(t, 1)]) {
            Ok(b) => b,
            Err(e) => {
                println!("{t}: batch {e}");
                continue;
            }
        };
        let r = parquet::arrow::ArrowWriter::try_new(File::create(format!("/tmp/sinkrt/types/{i:02}.parquet")).unwrap(), schema, None)
            .and_then(|mut w| {
                w.write(&batch)?;
                w.close()
            });
        println!("{i:02} {t}: {:?}", r.map(|_| ()));
    }
}
