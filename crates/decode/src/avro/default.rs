//! Defaults: a value as a schema has it, in JSON → the bytes that a writer would have written.
//!
//! Owns: which JSON stands for a value of a type.
//! Does not own: where a default is needed (see `plan`).

use serde_json::Value;

use super::schema::{Id, Kind, Schema};

/// Bytes of a default: every record without the field has it.
const BYTES_MAX: usize = 4 << 10;

/// Writes a value of a type whose records do not hold themselves.
///
/// # Errors
/// Why it is none, as a clause.
pub(super) fn encode(schema: &Schema, of: Id, json: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    value(schema, of, json, &mut bytes)?;
    Ok(bytes)
}

fn value(schema: &Schema, of: Id, json: &Value, bytes: &mut Vec<u8>) -> Result<(), String> {
    let kind = &schema.get(of).kind;
    let unfit = || format!("expected a value of type `{}`, got {}", kind.name().escape_debug(), crate::column::shown(&json.to_string()));
    match (kind, json) {
        (Kind::Null, Value::Null) => {}
        (Kind::Boolean, Value::Bool(value)) => bytes.push(u8::from(*value)),
        (Kind::Int, Value::Number(number)) => {
            let value = number.as_i64().and_then(|value| i32::try_from(value).ok()).ok_or_else(unfit)?;
            integer(value.into(), bytes);
        }
        (Kind::Long, Value::Number(number)) => integer(number.as_i64().ok_or_else(unfit)?, bytes),
        (Kind::Float, Value::Number(number)) => bytes.extend((number.as_f64().ok_or_else(unfit)? as f32).to_le_bytes()),
        (Kind::Double, Value::Number(number)) => bytes.extend(number.as_f64().ok_or_else(unfit)?.to_le_bytes()),
        (Kind::Bytes, Value::String(text)) => sized(&latin(text).ok_or_else(unfit)?, bytes),
        (Kind::String, Value::String(text)) => sized(text.as_bytes(), bytes),
        (Kind::Fixed { size, .. }, Value::String(text)) => {
            bytes.extend(latin(text).filter(|bytes| bytes.len() == *size).ok_or_else(unfit)?);
        }
        (Kind::Enum { symbols, .. }, Value::String(text)) => {
            let place = symbols.iter().position(|symbol| symbol == text).ok_or_else(unfit)?;
            length(place, bytes);
        }
        (Kind::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                length(items.len(), bytes);
                items.iter().try_for_each(|json| value(schema, *item, json, bytes))?;
            }
            bytes.push(0);
        }
        (Kind::Map(of), Value::Object(pairs)) => {
            if !pairs.is_empty() {
                length(pairs.len(), bytes);
                for (key, json) in pairs {
                    sized(key.as_bytes(), bytes);
                    value(schema, *of, json, bytes)?;
                }
            }
            bytes.push(0);
        }
        (Kind::Record { fields, .. }, Value::Object(object)) => {
            for field in fields {
                let json = object.get(&field.name).or(field.default.as_ref());
                let json = json.ok_or_else(|| format!("it lacks `{}`, which has no default", field.name.escape_debug()))?;
                value(schema, field.of, json, bytes)?;
            }
        }
        // The first branch by the letter of older specifications; any in use.
        (Kind::Union(branches), json) => {
            let start = bytes.len();
            let fits = |(place, branch): (usize, &Id)| {
                length(place, bytes);
                let fits = value(schema, *branch, json, bytes).is_ok();
                if !fits {
                    bytes.truncate(start);
                }
                fits
            };
            if !branches.iter().enumerate().any(fits) {
                return Err(unfit());
            }
        }
        _ => return Err(unfit()),
    }
    if bytes.len() > BYTES_MAX { Err(format!("more than {BYTES_MAX} bytes")) } else { Ok(()) }
}

/// Returns the bytes that the characters of a text stand for.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

fn sized(content: &[u8], bytes: &mut Vec<u8>) {
    length(content.len(), bytes);
    bytes.extend(content);
}

fn length(length: usize, bytes: &mut Vec<u8>) {
    integer(i64::try_from(length).expect("it is in memory"), bytes);
}

/// Writes an integer, the sign last and seven bits at a time.
fn integer(value: i64, bytes: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        bytes.push(u8::try_from(left & 0x7f).expect("seven bits") | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).expect("seven bits"));
}
