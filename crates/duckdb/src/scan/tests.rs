use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Int32Type};

use super::*;
use crate::callback::{Refusal, forget_fault, take_fault};
use crate::raw::RawDatabase;
use crate::session::{Database, Session};

fn converter() -> (Arc<Converter>, RawDatabase) {
    let database = RawDatabase::open_in_memory(&[("threads", "1")]).unwrap();
    (Arc::new(Converter::new(database.connect().unwrap())), database)
}

/// A chunk as DuckDB passes it to the scan.
struct Output(ffi::duckdb_data_chunk);

impl Output {
    fn like(chunk: &crate::arrow_ffi::Chunk) -> Self {
        let types: Vec<LogicalType> = (0..chunk.columns()).map(|column| chunk.column_type(column)).collect();
        let mut handles: Vec<_> = types.iter().map(LogicalType::as_ptr).collect();
        // SAFETY: the handles are live and copied.
        Self(unsafe { ffi::duckdb_create_data_chunk(handles.as_mut_ptr(), handles.len() as ffi::idx_t) })
    }

    fn address(&self, column: usize) -> *const c_void {
        // SAFETY: the chunk is live and has the column.
        let vector = unsafe { ffi::duckdb_data_chunk_get_vector(self.0, column as ffi::idx_t) };
        // SAFETY: the vector is live.
        unsafe { ffi::duckdb_vector_get_data(vector) }
    }

    /// Where the bytes of a text longer than 12 stand.
    fn text_address(&self, column: usize, row: usize) -> *const u8 {
        // SAFETY: the column is of text, flat, and has the row.
        let text = unsafe { self.address(column).cast::<ffi::duckdb_string_t>().add(row) };
        // SAFETY: as above; the headers are plain values.
        let text = unsafe { *text };
        // SAFETY: the text is longer than 12 bytes, so it is not inlined.
        unsafe { text.value.pointer.ptr }.cast()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: owned by `self`.
        unsafe { ffi::duckdb_destroy_data_chunk(&mut self.0) };
    }
}

#[test]
fn numbers_and_the_bytes_of_text_stand_where_arrow_put_them_when_the_scan_hands_them_on() {
    let (converter, _database) = converter();
    let numbers = Int64Array::from_iter_values(0..5000);
    let fractions = Float64Array::from_iter((0..5000).map(|row| (row % 3 != 0).then_some(f64::from(row))));
    let texts = StringArray::from_iter_values((0..5000).map(|row| format!("a text beyond twelve bytes {row}")));
    let columns: [(&str, ArrayRef); 3] =
        [("n", Arc::new(numbers.clone())), ("f", Arc::new(fractions.clone())), ("t", Arc::new(texts.clone()))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let input =
        Input { schema: batch.schema(), batches: vec![batch.clone()], converter: converter.clone(), withheld: None, pace: Pace::default() };

    // In another order than the batch has, as a projection asks for it.
    let scan = Scan::new(&input, &[2, 0, 1]).unwrap();
    let mut row = 0;
    while let Some(slice) = scan.slice() {
        let chunk = scan.converter.chunk(&scan.schema, &slice).unwrap();
        let output = Output::like(&chunk);
        // SAFETY: the output was made of the chunk's types.
        unsafe { chunk.hand_on(output.0) };
        drop(chunk);
        assert_eq!(output.address(1), numbers.values()[row..].as_ptr().cast(), "row {row}");
        assert_eq!(output.address(2), fractions.values()[row..].as_ptr().cast(), "row {row}");
        assert_eq!(output.text_address(0, 0), texts.value(row).as_ptr(), "row {row}");
        row += slice.num_rows();
    }
    assert_eq!(row, 5000);
}

#[test]
fn what_was_handed_on_outlives_the_batch() {
    let (converter, _database) = converter();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2048));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let schema = converter.schema(&batch.schema()).unwrap();
    let chunk = converter.chunk(&schema, &batch).unwrap();
    let output = Output::like(&chunk);
    // SAFETY: the output was made of the chunk's types.
    unsafe { chunk.hand_on(output.0) };
    let shared = Arc::downgrade(batch.column(0));
    let buffer = batch.column(0).to_data().buffers()[0].clone();
    drop((chunk, batch));
    assert!(shared.upgrade().is_none());
    assert_eq!(buffer.strong_count(), 2, "the output keeps the buffer alive");
    drop(output);
    assert_eq!(buffer.strong_count(), 1, "and lets go of it");
}

#[test]
fn a_dictionary_of_many_values_goes_as_plain_text_and_a_small_one_stays() {
    let dictionary = |values: i32| -> RecordBatch {
        let keys = Int32Array::from_iter((0..3000).map(|row| (row % 7 != 0).then_some(row % values)));
        let texts = StringArray::from_iter_values((0..values).map(|value| format!("a value beyond twelve bytes {value}")));
        let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(texts)));
        RecordBatch::try_from_iter([("d", column)]).unwrap()
    };
    let small = dictionary(256);
    let (schema, batches) = flatten_dictionaries(&small.schema(), vec![small.clone()]).unwrap();
    assert_eq!((schema, &batches[0]), (small.schema(), &small));

    let large = dictionary(257);
    let (schema, batches) = flatten_dictionaries(&large.schema(), vec![small, large.clone()]).unwrap();
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8View);
    let (plain, before) = (batches[1].column(0).as_string_view(), large.column(0).as_dictionary::<Int32Type>());
    assert_eq!(plain.value(1), "a value beyond twelve bytes 1");
    assert!(plain.is_null(0));
    let text = before.values().as_string::<i32>().value(1);
    assert_eq!(plain.value(1).as_ptr(), text.as_ptr(), "the text itself is shared");
}

#[test]
fn a_panic_in_a_callback_is_an_error_and_noted_as_our_own_fault() {
    forget_fault();
    let message = contain(|| panic!("slipped on {}", "ice")).unwrap_err();
    assert_eq!(message.to_str().unwrap(), "panicked: slipped on ice");
    assert_eq!((take_fault().as_deref(), take_fault()), (Some("panicked: slipped on ice"), None));
    assert!(contain(|| Ok(())).is_ok());
    assert!(contain(|| Err(Refusal::Limit)).is_err());
    assert_eq!(take_fault(), None, "a limit is no fault");
}

#[test]
fn an_error_of_the_scan_reaches_the_query_and_is_noted_as_our_own_fault() {
    let database = Database::open(1 << 30).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let session = Session::new(&database, &schema).unwrap();
    // Nothing is loaded: the scan has no input to bind to.
    let error = session.connection().execute_batch("SELECT * FROM events").unwrap_err();
    assert!(error.to_string().contains("the slot is empty"), "{error}");
    assert_eq!(take_fault().as_deref(), Some("the slot is empty"));
    // A batch that does not have the declared type: the conversion would read past its end, so the projection refuses it.
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let wrong = RecordBatch::try_from_iter([("n", narrow)]).unwrap();
    assert!(session.run("SELECT * FROM events", &wrong).is_err());
    assert!(take_fault().is_some());
}

#[test]
fn a_slot_is_empty_again_when_the_query_is_over() {
    let slots = Slots::default();
    let (slot, other) = (slots.reserve(), slots.reserve());
    let (converter, _database) = converter();
    let loaded =
        slot.load(Input { schema: Arc::new(Schema::empty()), batches: Vec::new(), converter, withheld: None, pace: Pace::default() });
    assert!(slots.get(slot.number).is_some() && slots.get(other.number).is_none());
    drop(loaded);
    assert!(slots.get(slot.number).is_none());
}
