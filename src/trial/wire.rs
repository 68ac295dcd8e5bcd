//! A batch as bytes, between two processes of the same program.
//!
//! Owns: the form: a line of JSON with a header for each chunk, then the bytes of all chunks.
//! Does not own: evidence and notes, and what is said beside a record that is too long: the child only runs the records.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, OffsetUnit, Records};
use pintail_core::messages::Payloads;
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Header {
    form: Form,
    partition: String,
    from: u64,
    to: u64,
    by_bytes: bool,
    /// Bytes of the records.
    length: usize,
}

#[derive(Serialize, Deserialize)]
enum Form {
    Lines,
    Payloads,
    Arrow,
    TooLong(u64),
}

/// Writes a batch.
pub(super) fn write(batch: &Batch, to: &mut impl Write) -> io::Result<()> {
    let mut headers = Vec::with_capacity(batch.chunks.len());
    let mut bodies: Vec<Bytes> = Vec::with_capacity(batch.chunks.len());
    for Chunk { records, range, unit, .. } in &batch.chunks {
        let (form, body) = match records {
            Records::Lines(lines) => (Form::Lines, lines.clone()),
            Records::Payloads(payloads) => (Form::Payloads, stream(payloads.rows())?),
            Records::Arrow(rows) => (Form::Arrow, stream(rows)?),
            Records::TooLong { head, length, .. } => (Form::TooLong(*length), head.clone()),
        };
        let (partition, by_bytes) = (range.partition.id.as_str().to_owned(), *unit == OffsetUnit::Bytes);
        headers.push(Header { form, partition, from: range.from, to: range.to, by_bytes, length: body.len() });
        bodies.push(body);
    }
    serde_json::to_writer(&mut *to, &headers)?;
    to.write_all(b"\n")?;
    bodies.iter().try_for_each(|body| to.write_all(body))?;
    to.flush()
}

/// Reads a batch; `None` at the end of the input.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Batch>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let headers: Vec<Header> = serde_json::from_slice(&line)?;
    let mut chunks = Vec::with_capacity(headers.len());
    for header in headers {
        let mut body = vec![0; header.length];
        from.read_exact(&mut body)?;
        let body = Bytes::from(body);
        let records = match header.form {
            Form::Lines => Records::Lines(body),
            Form::Payloads => Records::Payloads(Payloads::from_rows(rows(&body)?).ok_or(io::ErrorKind::InvalidData)?),
            Form::Arrow => Records::Arrow(rows(&body)?),
            Form::TooLong(length) => Records::TooLong { head: body, length, message: None },
        };
        let partition = Arc::new(Partition { id: PartitionId::new(header.partition.as_str()), label: header.partition.into() });
        let unit = if header.by_bytes { OffsetUnit::Bytes } else { OffsetUnit::Records };
        chunks.push(Chunk::new(records, OffsetRange::new(partition, header.from, header.to), unit));
    }
    Ok(Some(Batch::new(chunks)))
}

fn stream(rows: &RecordBatch) -> io::Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(io::Error::other)?;
    writer.write(rows).and_then(|()| writer.into_inner()).map(Bytes::from).map_err(io::Error::other)
}

fn rows(stream: &[u8]) -> io::Result<RecordBatch> {
    let mut batches = StreamReader::try_new(stream, None).map_err(io::Error::other)?;
    let rows = batches.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    rows.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use pintail_core::messages::{Message, PayloadsBuilder};

    use super::*;

    fn chunk(records: Records, from: u64, to: u64, unit: OffsetUnit) -> Chunk {
        let partition = Arc::new(Partition { id: PartitionId::new("a\nb"), label: "a\nb".into() });
        Chunk::new(records, OffsetRange::new(partition, from, to), unit)
    }

    #[test]
    fn every_form_of_records_reads_back_as_it_was() {
        let numbers = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![Some(1), None])) as _)]).unwrap();
        let mut payloads = PayloadsBuilder::default();
        let headers = vec![("a".into(), Some(&b"\xff"[..])), ("b".into(), None)];
        payloads.push(0, &Message { topic: Some("t"), headers, payload: Some(b"\0\n"), ..Message::default() });
        payloads.push(1, &Message { key: Some(b"k"), ..Message::default() });
        let lines = Bytes::from_static(b"{}\n\xff\n");
        let batch = Batch::new(vec![
            chunk(Records::Lines(lines), 7, 12, OffsetUnit::Bytes),
            chunk(Records::Lines(Bytes::new()), 12, 12, OffsetUnit::Bytes),
            chunk(Records::Payloads(payloads.finish()), 0, 2, OffsetUnit::Records),
            chunk(Records::Arrow(numbers.slice(1, 1)), 1, 2, OffsetUnit::Records),
            chunk(Records::TooLong { head: Bytes::from_static(b"\n"), length: 1 << 40, message: None }, 9, 10, OffsetUnit::Records),
        ]);
        let mut bytes = Vec::new();
        write(&batch, &mut bytes).unwrap();
        write(&batch, &mut bytes).unwrap();
        let mut rest = &bytes[..];
        for _ in 0..2 {
            let read = read(&mut rest).unwrap().unwrap();
            assert_eq!(format!("{read:?}"), format!("{batch:?}"));
        }
        assert!(read(&mut rest).unwrap().is_none());
        assert!(read(&mut &bytes[..bytes.len() / 2 - 3]).is_err(), "cut off");
    }
}
