use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::session::{Database, Session};

/// A session with `events (id, name, tags)` and a lookup table `l (id, label)`, which may be empty.
fn session(lookup_rows: usize) -> Session {
    let events = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("tags", DataType::Utf8, true),
    ]);
    let session = Session::new(&Database::open(1 << 30).unwrap(), &Arc::new(events)).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..lookup_rows as i64));
    let labels: ArrayRef = Arc::new(StringArray::from_iter_values((0..lookup_rows).map(|row| format!("label {row}"))));
    let rows = RecordBatch::try_from_iter([("id", ids), ("label", labels)]).unwrap();
    session.create_table("l", &rows.schema(), vec![rows]).unwrap();
    session
}

fn check(session: &Session, sql: &str) -> Result<(), Fault> {
    let select = session.parse(sql).unwrap();
    session.with_no_events(|connection| check_row_by_row(connection, &select))
}

#[test]
fn rows_that_come_from_one_event_each_are_allowed_also_while_the_lookup_is_empty() {
    for rows in [0, 10] {
        let session = session(rows);
        for sql in [
            "SELECT * FROM events",
            "FROM events SELECT id + 1 AS next WHERE name LIKE 'a%'",
            "SELECT events.id, Events.name FROM EVENTS",
            "SELECT events.* FROM temp.events",
            "SELECT id FROM events WHERE false",
            "SELECT id FROM events ORDER BY name",
            "SELECT id, unnest(string_split(tags, ',')) AS tag FROM events",
            "SELECT e.id, tag FROM events e, unnest(string_split(e.tags, ',')) AS t(tag)",
            "SELECT e.*, l.label FROM events e JOIN l ON e.id = l.id",
            "SELECT e.*, l.label FROM l JOIN events e USING (id)",
            "SELECT e.*, l.label FROM events e LEFT JOIN l ON e.id = l.id",
            "SELECT e.*, l.label FROM events e LEFT JOIN l ON e.id < l.id OR e.name = l.label",
            "SELECT e.*, l.label FROM l RIGHT JOIN events e ON e.id = l.id",
            "SELECT e.*, l.label FROM events e, l",
            "SELECT e.*, l.label FROM events e ASOF JOIN l ON e.id >= l.id",
            "SELECT id FROM events WHERE id IN (SELECT id FROM l)",
            "SELECT id FROM events WHERE id NOT IN (SELECT id FROM l WHERE label IS NOT NULL)",
            "SELECT e.id FROM events e WHERE EXISTS (SELECT 1 FROM l WHERE l.id = e.id)",
            "SELECT e.id FROM events e SEMI JOIN l ON e.id = l.id",
            "SELECT e.id, (SELECT label FROM l WHERE l.id = e.id) AS label FROM events e",
            "SELECT e.id, (SELECT max(label) FROM l WHERE l.id < e.id) AS label FROM events e",
            "SELECT id, (SELECT count(*) FROM l) AS labels FROM events",
            "SELECT e.id, n FROM events e JOIN (SELECT id, count(*) AS n FROM l GROUP BY id) c USING (id)",
            "SELECT e.id, b.label FROM events e, LATERAL (SELECT label FROM l WHERE l.id > e.id ORDER BY l.id LIMIT 1) b",
            "WITH labels AS (SELECT DISTINCT label FROM l) SELECT id FROM events WHERE name IN (FROM labels)",
            "WITH named AS (SELECT * FROM events WHERE name IS NOT NULL) SELECT id FROM named",
            "WITH named AS MATERIALIZED (SELECT * FROM events) SELECT id FROM named UNION ALL SELECT -id FROM named",
            "SELECT id FROM events UNION ALL SELECT -id FROM events",
            "SELECT list_sum([id, 1]) AS s, array_length(string_split(tags, ',')) AS n FROM events",
        ] {
            assert_eq!(check(&session, sql), Ok(()), "{rows} lookup rows: {sql}");
        }
    }
}

#[test]
fn rows_that_depend_on_each_other_are_refused_with_the_reason_also_while_the_lookup_is_empty() {
    for rows in [0, 10] {
        let session = session(rows);
        for (sql, reason) in [
            ("SELECT count(*) FROM events", "aggregates over"),
            ("SELECT name, sum(id) FROM events GROUP BY name", "aggregates over"),
            ("SELECT name FROM events GROUP BY ALL", "aggregates over"),
            ("SELECT id, row_number() OVER () FROM events", "window function"),
            ("SELECT id, lag(id) OVER (ORDER BY id) FROM events", "window function"),
            ("SELECT id FROM events QUALIFY row_number() OVER (PARTITION BY name) = 1", "window function"),
            ("SELECT DISTINCT name FROM events", "DISTINCT"),
            ("SELECT DISTINCT ON (name) * FROM events", "DISTINCT"),
            ("SELECT * FROM events LIMIT 10", "LIMIT"),
            ("SELECT * FROM events OFFSET 1", "LIMIT"),
            ("SELECT * FROM events ORDER BY id LIMIT 10", "LIMIT"),
            ("SELECT * FROM events USING SAMPLE 10%", "sample"),
            ("SELECT id FROM events UNION SELECT id + 1 FROM events", "DISTINCT"),
            ("SELECT id FROM events UNION ALL SELECT id FROM l", "unites"),
            ("SELECT id FROM events EXCEPT SELECT id FROM l", "EXCEPT"),
            ("SELECT id FROM events INTERSECT SELECT id FROM l", "INTERSECT"),
            ("SELECT a.id FROM events a JOIN events b ON a.id = b.id", "joins `events` with `events`"),
            ("SELECT a.id FROM events a WHERE a.id IN (SELECT id + 1 FROM events)", "joins `events` with `events`"),
            ("SELECT id FROM events WHERE id = (SELECT max(id) FROM events)", "aggregates over"),
            ("SELECT e.id, (SELECT count(*) FROM events f WHERE f.name = e.name) FROM events e", "aggregates over"),
            ("SELECT l.id, e.name FROM l LEFT JOIN events e ON e.id = l.id", "without an event"),
            ("SELECT l.id, e.name FROM events e RIGHT JOIN l ON e.id = l.id", "without an event"),
            ("SELECT l.id, e.name FROM events e FULL JOIN l ON e.id = l.id", "without an event"),
            ("SELECT l.id, e.name FROM events e FULL JOIN l ON e.id < l.id OR e.name = l.label", "without an event"),
            ("SELECT l.id FROM l WHERE l.id NOT IN (SELECT id FROM events WHERE id IS NOT NULL)", "without an event"),
            ("SELECT * FROM l", "reads no `events`"),
            ("SELECT 1 AS one", "reads no `events`"),
            (
                "SELECT (SELECT (SELECT count(*) FROM events f WHERE f.id = e.id AND f.name = l.label) FROM l WHERE l.id = e.id) FROM events e",
                "aggregates over",
            ),
            (
                "SELECT e.id, l.label FROM events e LEFT JOIN l ON e.id = l.id AND EXISTS (SELECT 1 FROM events f WHERE f.name = e.name)",
                "join's condition",
            ),
            ("WITH RECURSIVE r AS (SELECT id FROM events UNION ALL SELECT id - 1 FROM r WHERE id > 0) SELECT id FROM r", "recursive"),
        ] {
            match check(&session, sql) {
                Err(Fault::Coupled(found)) => assert!(found.contains(reason), "{sql}: {found}"),
                other => panic!("{rows} lookup rows: {sql}: {other:?}"),
            }
        }
    }
}
