//! Values that can be shown: times so far away that Arrow's formatter has no words for them become text, and time zones become offsets.
//!
//! Owns: which times those are, and their text, as DuckDB writes it.
//! Does not own: how others are shown, and what is escaped (see [`pintail_core::escape`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, make_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit, UnionFields};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Utc};

const SECONDS_A_DAY: i64 = 86_400;

/// Returns a batch of which every value can be shown.
///
/// # Errors
/// Those of Arrow.
pub fn batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    let fields: Vec<Field> =
        schema.fields().iter().zip(&columns).map(|(field, column)| retyped(field, column.data_type().clone())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Returns a column of which every value can be shown: itself, if it has no other.
///
/// # Errors
/// Those of Arrow.
pub fn column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        // DuckDB's `TIMESTAMPTZ`. Arrow shows no zone by name without a database of zones.
        DataType::Timestamp(unit, Some(zone)) if &**zone == "UTC" => {
            times(&cast(column, &DataType::Timestamp(*unit, Some("+00:00".into())))?)
        }
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => times(column),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            nested(column, std::slice::from_ref(item))
        }
        DataType::Struct(fields) => nested(column, fields),
        DataType::Union(members, _) => nested(column, &members.iter().map(|(_, member)| member.clone()).collect::<Vec<_>>()),
        _ => Ok(column.clone()),
    }
}

fn retyped(field: &Field, data_type: DataType) -> Field {
    field.clone().with_data_type(data_type)
}

fn nested(whole: &ArrayRef, fields: &[Arc<Field>]) -> Result<ArrayRef, ArrowError> {
    let data = whole.to_data();
    let children = data.child_data().iter().map(|child| column(&make_array(child.clone()))).collect::<Result<Vec<_>, _>>()?;
    if children.iter().zip(fields).all(|(child, field)| child.data_type() == field.data_type()) {
        return Ok(whole.clone());
    }
    let fields: Fields = fields.iter().zip(&children).map(|(field, child)| retyped(field, child.data_type().clone())).collect();
    let item = || fields[0].clone();
    let data_type = match whole.data_type() {
        DataType::List(_) => DataType::List(item()),
        DataType::LargeList(_) => DataType::LargeList(item()),
        DataType::FixedSizeList(_, length) => DataType::FixedSizeList(item(), *length),
        DataType::Map(_, sorted) => DataType::Map(item(), *sorted),
        DataType::Union(members, mode) => {
            let ids = members.iter().map(|(id, _)| id);
            DataType::Union(UnionFields::try_new(ids, fields.iter().cloned())?, *mode)
        }
        _ => DataType::Struct(fields),
    };
    let children = children.iter().map(|child| child.to_data()).collect();
    Ok(make_array(data.into_builder().data_type(data_type).child_data(children).build()?))
}

fn times(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let numbers = cast(column, &DataType::Int64).or_else(|_| cast(&cast(column, &DataType::Int32)?, &DataType::Int64))?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let data_type = column.data_type();
    if numbers.iter().flatten().all(|number| is_near(data_type, number)) {
        return Ok(column.clone());
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let texts = numbers.iter().enumerate().map(|(row, number)| match number {
        None => Ok(None),
        Some(number) if is_near(data_type, number) => formatter.value(row).try_to_string().map(Some),
        Some(number) => Ok(Some(far(data_type, number))),
    });
    Ok(Arc::new(texts.collect::<Result<StringArray, ArrowError>>()?))
}

/// Returns whether Arrow's formatter shows a time.
fn is_near(data_type: &DataType, number: i64) -> bool {
    // A zone may shift it by hours.
    let (first, last) = (DateTime::<Utc>::MIN_UTC.timestamp() + SECONDS_A_DAY, DateTime::<Utc>::MAX_UTC.timestamp() - SECONDS_A_DAY);
    match data_type {
        DataType::Date32 => (first / SECONDS_A_DAY..last / SECONDS_A_DAY).contains(&number),
        DataType::Timestamp(unit, _) => (first..last).contains(&number.div_euclid(a_second(*unit))),
        DataType::Time32(unit) | DataType::Time64(unit) => (0..SECONDS_A_DAY * a_second(*unit)).contains(&number),
        _ => true,
    }
}

fn a_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Writes a time as DuckDB does. Infinity is its greatest number.
fn far(data_type: &DataType, number: i64) -> String {
    match data_type {
        DataType::Date32 if number == i64::from(i32::MAX) => "infinity".to_owned(),
        DataType::Date32 if number == -i64::from(i32::MAX) => "-infinity".to_owned(),
        DataType::Date32 => date(number),
        DataType::Timestamp(..) if number == i64::MAX => "infinity".to_owned(),
        DataType::Timestamp(..) if number == -i64::MAX => "-infinity".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let seconds = number.div_euclid(a_second(*unit));
            let time = time(number.rem_euclid(a_second(*unit)), seconds.rem_euclid(SECONDS_A_DAY), *unit);
            format!("{} {time}{}", date(seconds.div_euclid(SECONDS_A_DAY)), if zone.is_some() { "+00" } else { "" })
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            time(number.rem_euclid(a_second(*unit)), number.div_euclid(a_second(*unit)), *unit)
        }
        _ => number.to_string(),
    }
}

fn time(fraction: i64, seconds: i64, unit: TimeUnit) -> String {
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        let digits = a_second(unit).ilog10() as usize;
        text += format!(".{fraction:0digits$}").trim_end_matches('0');
    }
    text
}

/// Writes a date of the proleptic Gregorian calendar, by days since 1970.
fn date(days: i64) -> String {
    // Years that begin in March, in eras of 400 years: the leap day is the last one.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    // There is no year 0: it is the first before Christ.
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " (BC)") };
    format!("{year:04}-{month:02}-{day_of_month:02}{era}")
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, ListArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
        TimestampSecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use chrono::{Days, NaiveDate};

    use super::*;

    fn texts(times: impl Array + 'static) -> Vec<Option<String>> {
        let shown = column(&(Arc::new(times) as ArrayRef)).unwrap();
        shown.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn a_time_that_arrow_has_no_words_for_is_text_as_duckdb_writes_it() {
        let timestamps = texts(TimestampMicrosecondArray::from(vec![
            Some(i64::MAX),
            Some(-i64::MAX),
            Some(i64::MAX - 1),
            Some(0),
            None,
            Some(-9_223_372_022_400_000_000),
        ]));
        let expected = ["infinity", "-infinity", "294247-01-10 04:00:54.775806", "1970-01-01T00:00:00", "", "290309-12-22 (BC) 00:00:00"];
        assert_eq!(timestamps, expected.map(|text| (!text.is_empty()).then(|| text.to_owned())));
        let dates = texts(Date32Array::from(vec![i32::MAX, -i32::MAX, i32::MAX - 1]));
        assert_eq!(dates, ["infinity", "-infinity", "5881580-07-10"].map(|text| Some(text.to_owned())));
        assert_eq!(
            texts(Time64MicrosecondArray::from(vec![86_400_000_000, 1])),
            [Some("24:00:00".to_owned()), Some("00:00:00.000001".to_owned())]
        );
    }

    #[test]
    fn a_date_far_away_follows_the_calendar_of_those_nearby() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in (0..1_000_000_u64).step_by(313) {
            let near = epoch.checked_add_days(Days::new(days)).unwrap();
            assert_eq!(date(days as i64), near.to_string());
            let near = epoch.checked_sub_days(Days::new(days % 700_000)).unwrap();
            assert_eq!(date(-((days % 700_000) as i64)), near.to_string());
        }
        // 400 years have always as many days.
        assert_eq!(date(146_097 * 700), "281970-01-01");
        assert_eq!(date(-719_163), "0001-12-31 (BC)");
    }

    #[test]
    fn what_can_be_shown_stays_as_it_is_also_within_lists_and_structs() {
        let near: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(0), None]));
        assert!(Arc::ptr_eq(&column(&near).unwrap(), &near) || column(&near).unwrap().data_type() == near.data_type());
        let far: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MAX, 0]));
        // Nanoseconds reach no further than the year 2262.
        assert_eq!(column(&far).unwrap().data_type(), far.data_type());
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX, 0]));
        let item = Arc::new(Field::new("item", far.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths([1, 1]), far.clone(), None));
        let structs: ArrayRef =
            Arc::new(StructArray::from(vec![(item, far), (Arc::new(Field::new("l", list.data_type().clone(), true)), list.clone())]));
        for nested in [list, structs] {
            let shown = column(&nested).unwrap();
            let options = FormatOptions::default();
            let text = ArrayFormatter::try_new(&shown, &options).unwrap().value(0).try_to_string().unwrap();
            assert!(text.contains("infinity"), "{text}");
            assert_eq!(shown.len(), 2);
        }
    }
}
