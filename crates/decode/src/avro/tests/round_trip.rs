//! Random schemas and values: what an encoder of the tests writes comes back by value, and what is damaged harms nothing beside it.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{Float32Type, Float64Type, Int32Type, Int64Type};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Of {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(usize),
    List(Box<Of>),
    Map(Box<Of>),
    Record(Vec<Of>),
    /// With null at a place.
    Optional(Box<Of>, usize),
    /// An int, a text and a record, with null at a place.
    Union(Vec<Of>, usize),
}

fn leaf() -> impl Strategy<Value = Of> {
    prop_oneof![
        Just(Of::Boolean),
        Just(Of::Int),
        Just(Of::Long),
        Just(Of::Float),
        Just(Of::Double),
        Just(Of::Bytes),
        Just(Of::Text),
        (0..20usize).prop_map(Of::Fixed),
        (1..5usize).prop_map(Of::Enum),
    ]
}

fn types() -> impl Strategy<Value = Of> {
    leaf().prop_recursive(4, 32, 4, |inner| {
        let single = inner.clone().prop_filter("a union in a union", |of| !matches!(of, Of::Optional(..) | Of::Union(..)));
        prop_oneof![
            inner.clone().prop_map(|of| Of::List(Box::new(of))),
            inner.clone().prop_map(|of| Of::Map(Box::new(of))),
            vec(inner.clone(), 1..4).prop_map(Of::Record),
            (single, 0..2usize).prop_map(|(of, null)| Of::Optional(Box::new(of), null)),
            (vec(inner, 1..3), 0..4usize).prop_map(|(fields, null)| Of::Union(vec![Of::Int, Of::Text, Of::Record(fields)], null)),
        ]
    })
}

impl Of {
    /// Writes it as a schema; names are numbered.
    fn schema(&self, names: &mut usize) -> Value {
        let mut name = || {
            *names += 1;
            format!("N{names}")
        };
        match self {
            Self::Boolean => json!("boolean"),
            Self::Int => json!("int"),
            Self::Long => json!("long"),
            Self::Float => json!("float"),
            Self::Double => json!("double"),
            Self::Bytes => json!("bytes"),
            Self::Text => json!("string"),
            Self::Fixed(size) => json!({ "type": "fixed", "name": name(), "size": size }),
            Self::Enum(symbols) => {
                json!({ "type": "enum", "name": name(), "symbols": (0..*symbols).map(|n| format!("S{n}")).collect::<Vec<_>>() })
            }
            Self::List(of) => json!({ "type": "array", "items": of.schema(names) }),
            Self::Map(of) => json!({ "type": "map", "values": of.schema(names) }),
            Self::Record(fields) => {
                let name = name();
                let fields = fields.iter().enumerate().map(|(n, of)| json!({ "name": format!("f{n}"), "type": of.schema(names) }));
                json!({ "type": "record", "name": name, "fields": fields.collect::<Vec<_>>() })
            }
            Self::Optional(of, null) => with_null(vec![of.schema(names)], *null),
            Self::Union(branches, null) => with_null(branches.iter().map(|of| of.schema(names)).collect(), *null),
        }
    }

    fn values(&self) -> BoxedStrategy<Written> {
        match self {
            Self::Boolean => any::<bool>().prop_map(Boolean).boxed(),
            Self::Int => any::<i32>().prop_map(|value| Integer(value.into())).boxed(),
            Self::Long => prop_oneof![any::<i64>(), -200..200i64].prop_map(Integer).boxed(),
            Self::Float => any::<u32>().prop_map(Float).boxed(),
            Self::Double => any::<u64>().prop_map(Double).boxed(),
            Self::Bytes => vec(any::<u8>(), 0..9).prop_map(Sized).boxed(),
            Self::Text => ".{0,5}".prop_map(|value| Sized(value.into_bytes())).boxed(),
            Self::Fixed(size) => vec(any::<u8>(), *size).prop_map(Fixed).boxed(),
            Self::Enum(symbols) => (0..*symbols as i64).prop_map(Integer).boxed(),
            Self::List(of) => vec(of.values(), 0..5).prop_map(Array).boxed(),
            Self::Map(of) => btree_map(".{0,3}", of.values(), 0..5).prop_map(|pairs| Map(pairs.into_iter().collect())).boxed(),
            Self::Record(fields) => fields.iter().map(Self::values).collect::<Vec<_>>().prop_map(Record).boxed(),
            Self::Optional(of, null) => branches(std::slice::from_ref(&**of), *null),
            Self::Union(of, null) => branches(of, *null),
        }
    }

    /// Reads a value of a column back.
    fn back(&self, array: &ArrayRef, row: usize) -> Written {
        match self {
            Self::Optional(..) | Self::Union(..) => {}
            _ => assert!(array.is_valid(row)),
        }
        match self {
            Self::Boolean => Boolean(array.as_boolean().value(row)),
            Self::Int => Integer(array.as_primitive::<Int32Type>().value(row).into()),
            Self::Long => Integer(array.as_primitive::<Int64Type>().value(row)),
            Self::Float => Float(array.as_primitive::<Float32Type>().value(row).to_bits()),
            Self::Double => Double(array.as_primitive::<Float64Type>().value(row).to_bits()),
            Self::Bytes => Sized(array.as_binary::<i32>().value(row).to_vec()),
            Self::Fixed(_) => Fixed(array.as_binary::<i32>().value(row).to_vec()),
            Self::Text => text(array.as_string::<i32>().value(row)),
            Self::Enum(_) => {
                let plain = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).unwrap();
                Integer(plain.as_string::<i32>().value(row)[1..].parse().unwrap())
            }
            Self::List(of) => {
                let items = array.as_list::<i32>().value(row);
                Array((0..items.len()).map(|item| of.back(&items, item)).collect())
            }
            Self::Map(of) => {
                let pairs = array.as_map().value(row);
                let (keys, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1));
                Map((0..pairs.len()).map(|pair| (keys.value(pair).to_owned(), of.back(values, pair))).collect())
            }
            Self::Record(fields) => {
                let columns = array.as_struct().columns();
                Record(fields.iter().zip(columns).map(|(of, column)| of.back(column, row)).collect())
            }
            Self::Optional(of, null) => match array.is_null(row) {
                true => some(*null, Null),
                false => some(1 - null, of.back(array, row)),
            },
            Self::Union(of, null) if array.is_null(row) => some(*null.min(&of.len()), Null),
            Self::Union(of, null) => {
                let members = array.as_struct().columns();
                let valid: Vec<_> = (0..of.len()).filter(|member| members[*member].is_valid(row)).collect();
                let [member] = valid[..] else { panic!("{} branches have a value", valid.len()) };
                let branch = member + usize::from(*null.min(&of.len()) <= member);
                some(branch, of[member].back(&members[member], row))
            }
        }
    }
}

fn with_null(mut branches: Vec<Value>, null: usize) -> Value {
    branches.insert(null.min(branches.len()), json!("null"));
    branches.into()
}

fn branches(of: &[Of], null: usize) -> BoxedStrategy<Written> {
    let null = null.min(of.len());
    let places = (0..=of.len()).filter(|place| *place != null);
    let values = of.iter().zip(places).map(|(of, place)| of.values().prop_map(move |value| some(place, value)).boxed());
    proptest::strategy::Union::new(values.chain([Just(some(null, Null)).boxed()])).boxed()
}

fn schema_of(columns: &[Of]) -> String {
    Of::Record(columns.to_vec()).schema(&mut 0).to_string()
}

fn cases() -> impl Strategy<Value = (Vec<Of>, Vec<Written>, Blocks)> {
    let rows = vec(types(), 1..5).prop_flat_map(|columns| {
        let rows = vec(Of::Record(columns.clone()).values(), 1..6);
        (Just(columns), rows)
    });
    (rows, 1..4usize, any::<bool>()).prop_map(|((columns, rows), items, are_sized)| (columns, rows, Blocks { items, are_sized }))
}

proptest! {
    #[test]
    fn what_is_written_comes_back_by_value((columns, rows, blocks) in cases()) {
        let payloads: Vec<_> = rows.iter().map(|row| { let mut bytes = Vec::new(); row.encode(blocks, &mut bytes); bytes }).collect();
        let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
        let decoded = decode_all(&mut decoder_of(&schema_of(&columns), Framing::None), &payloads);
        prop_assert!(decoded.dead_letters.is_empty(), "{:?}", decoded.dead_letters);
        for (row, written) in rows.iter().enumerate() {
            let back = columns.iter().zip(decoded.batch.columns()).map(|(of, column)| of.back(column, row)).collect();
            prop_assert_eq!(&Record(back), written);
        }
    }

    #[test]
    fn what_is_damaged_harms_nothing_beside_it((columns, rows, blocks) in cases(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = Vec::new();
        rows[0].encode(blocks, &mut bytes);
        let mut damaged = bytes.clone();
        if !damaged.is_empty() {
            let at = at.index(damaged.len());
            if cut { damaged.truncate(at) } else { damaged[at] = with }
        }
        let mut decoder = decoder_of(&schema_of(&columns), Framing::None);
        let alone = decode_all(&mut decoder, &[&bytes]).batch;
        let beside = decode_all(&mut decoder, &[&bytes, &damaged, &bytes]).batch;
        let last = beside.num_rows() - 1;
        prop_assert!(last >= 1);
        for (of, (column, beside)) in columns.iter().zip(alone.columns().iter().zip(beside.columns())) {
            prop_assert_eq!(of.back(column, 0), of.back(beside, 0));
            prop_assert_eq!(of.back(column, 0), of.back(beside, last));
        }
    }
}
