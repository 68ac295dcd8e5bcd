//! Flat: `SELECT`s that read each other as if they were one, so that an expression can be asked about wherever it stands.
//!
//! Owns: writing each expression of a SQL over the columns of `events`, and which rows of which `FROM` it is computed for.
//! Does not own: the queries that are made of it (see `probe`), forms of expressions that do not fail (see `rewrite`).
//!
//! A `SELECT` of a common table expression or a subquery becomes the expressions that it makes of `events`, put in where they are read. The
//! `FROM` grows by what `events` are joined with, and by lists that are unnested. Before it grows there is a [`Stage`]: what was projected until
//! then DuckDB may compute for rows that find no partner, or have an empty list. It computes no column that nobody reads.
//!
//! Whether DuckDB computes an expression before or after a condition, this file does not know, and nobody need: see `probe`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::tree::{conditions, is_empty, is_events, lower, reference};

mod relation;

use relation::{Column, Names, Relation, renamed, resolve, star};

/// Where it is noted which projected column an expression is. DuckDB ignores the key.
const COLUMN: &str = "pintail_column";
/// Where a subquery of ours is marked.
const UNNESTED: &str = "pintail_unnested";

/// Rows, and what is computed of them.
#[derive(Debug)]
pub(super) struct Stage {
    /// The `FROM` clause, which reads `events` once.
    pub from: Value,
    /// The conditions that rows have to pass here, and after them those further up: DuckDB may ask them here as well.
    pub conditions: Vec<Value>,
    /// How many conditions there are here.
    pub own: usize,
    /// Other expressions.
    pub items: Vec<Value>,
    /// Whether what is computed for which record is known, where the conditions are.
    pub is_known: bool,
}

/// Flattens a SQL that names `events` once. `columns` are those of `events`; `names_of` names the columns of a table that does not read it.
pub(super) fn flatten(top: &Value, columns: &[&str], names_of: &dyn Fn(&Value) -> Option<Vec<String>>) -> Option<Vec<Stage>> {
    let mut flat = Flattener {
        text: top.to_string().to_lowercase(),
        events: columns,
        names_of,
        ctes: Vec::new(),
        stages: Vec::new(),
        pool: Vec::new(),
        read: BTreeSet::new(),
    };
    let relation = flat.select(top)?;
    let items = relation.columns.into_iter().map(|column| column.expression).collect();
    flat.stages.push(Stage { from: relation.from, own: relation.conditions.len(), conditions: Vec::new(), items, is_known: true });
    for stage in &mut flat.stages {
        stage.conditions = relation.conditions.clone();
    }
    flat.add_columns_that_are_read();
    Some(flat.stages)
}

/// What a `FROM` computes itself.
pub(super) enum Computed {
    /// A list that is unnested.
    List,
    /// What a join compares.
    Condition,
}

/// Visits what a `FROM` of a [`Stage`] computes.
pub(super) fn each_computed(from: &mut Value, visit: &mut dyn FnMut(&mut Value, Computed)) {
    match from["type"].as_str() {
        Some("JOIN") => {
            each_computed(&mut from["left"], visit);
            each_computed(&mut from["right"], visit);
            if !from["condition"].is_null() {
                visit(&mut from["condition"], Computed::Condition);
            }
        }
        Some("TABLE_FUNCTION") if from["function"]["function_name"] == "unnest" => {
            let arguments = from["function"]["arguments"].as_array_mut().into_iter().flatten();
            arguments.for_each(|argument| visit(&mut argument["expression"], Computed::List));
        }
        Some("SUBQUERY") if from[UNNESTED] == json!(true) => {
            let node = &mut from["subquery"]["node"];
            each_computed(&mut node["from_table"], visit);
            let items = node["select_list"].as_array_mut().into_iter().flatten().skip(1);
            items.for_each(|item| visit(&mut item["arguments"][0]["expression"], Computed::List));
        }
        _ => {}
    }
}

struct Flattener<'a> {
    /// The SQL's tree.
    text: String,
    events: &'a [&'a str],
    names_of: &'a dyn Fn(&Value) -> Option<Vec<String>>,
    ctes: Vec<(String, &'a Value)>,
    stages: Vec<Stage>,
    /// Projected columns that are more than a column, and the stage in which they are.
    pool: Vec<(usize, Value)>,
    /// Those of them that may be computed although nothing reads them.
    read: BTreeSet<u64>,
}

impl Stage {
    /// Returns whether each record has one row.
    pub(super) fn is_single(&self) -> bool {
        self.from["type"] == "BASE_TABLE"
    }
}

impl<'a> Flattener<'a> {
    fn select(&mut self, node: &'a Value) -> Option<Relation> {
        let filters = ["having", "qualify", "sample"].iter().any(|filter| !node[filter].is_null());
        if node["type"] != "SELECT_NODE" || filters || !is_empty(&node["group_expressions"]) || !only_orders(&node["modifiers"]) {
            return None;
        }
        for cte in node["cte_map"]["map"].as_array().into_iter().flatten() {
            self.ctes.push((lower(&cte["key"])?, &cte["value"]));
        }
        let mut relation = self.from(&node["from_table"])?;
        let list = node["select_list"].as_array()?;
        let mut names = Names::default();
        if !node["where_clause"].is_null() {
            self.name_aliases(list, &relation, &mut names);
            let clause = resolve(&node["where_clause"], &relation, &mut names)?;
            relation.conditions.extend(conditions(&clause).into_iter().cloned());
        }
        names.aliases.clear();
        let mut columns = Vec::new();
        for item in list {
            if item["class"] == "STAR" {
                star(item, &relation, &mut names, &mut columns)?;
                continue;
            }
            let expression = resolve(item, &relation, &mut names)?;
            let last = item["column_names"].as_array().and_then(|names| names.last());
            let name =
                [&item["alias"], last.unwrap_or(&Value::Null)].into_iter().find_map(|name| lower(name).filter(|name| !name.is_empty()));
            let name = name.unwrap_or_default();
            if !name.is_empty() && !relation.columns.iter().any(|column| column.name == name) {
                names.aliases.push((name.clone(), expression.clone()));
            }
            columns.push(Column { table: String::new(), name, expression });
        }
        let mut lists = Vec::new();
        columns
            .iter_mut()
            .for_each(|column| take_lists(&mut column.expression, relation.events.as_deref().unwrap_or_default(), &mut lists));
        if !lists.is_empty() {
            self.unnest(&mut relation, lists)?;
        }
        relation.is_raw = false;
        relation.columns = columns;
        Some(relation)
    }

    /// Names what a `WHERE` may mean by the aliases of its select list.
    fn name_aliases(&self, list: &[Value], relation: &Relation, names: &mut Names) {
        for item in list {
            let Some(alias) = lower(&item["alias"]).filter(|alias| !alias.is_empty()) else { continue };
            if relation.columns.iter().any(|column| column.name == alias) {
                continue;
            }
            if let Some(expression) = resolve(item, relation, names) {
                names.aliases.push((alias, expression));
            }
        }
    }

    fn from(&mut self, table: &'a Value) -> Option<Relation> {
        match table["type"].as_str()? {
            _ if !table["sample"].is_null() => None,
            "BASE_TABLE" if is_events(table) => self.events_table(table),
            "BASE_TABLE" => match self.cte(table) {
                Some((name, cte)) => {
                    let is_read_once = self.text.matches(&format!("\"table_name\":{}", json!(name))).count() == 1;
                    if !is_read_once {
                        return None;
                    }
                    let relation = self.select(&cte["query_node"])?;
                    let relation = renamed(relation, &cte["aliases"])?;
                    let relation = self.projected(relation, table, &name)?;
                    if cte["materialized"] == "CTE_MATERIALIZE_ALWAYS" {
                        relation.columns.iter().for_each(|column| collect_columns(&column.expression, &mut self.read));
                    }
                    Some(relation)
                }
                None => self.other(table),
            },
            "SUBQUERY" if self.reads_events(table) => {
                let relation = self.select(&table["subquery"]["node"])?;
                self.projected(relation, table, "")
            }
            "JOIN" if self.reads_events(table) => self.join(table),
            _ if self.reads_events(table) => None,
            _ => self.other(table),
        }
    }

    fn cte(&self, table: &Value) -> Option<(String, &'a Value)> {
        let name = lower(&table["table_name"])?;
        self.ctes.iter().rev().find(|(cte, _)| *cte == name).map(|(_, definition)| (name.clone(), *definition))
    }

    fn events_table(&self, table: &Value) -> Option<Relation> {
        let alias = lower(&table["alias"]).filter(|alias| !alias.is_empty()).unwrap_or_else(|| "events".to_owned());
        let mut from = table.clone();
        from["alias"] = json!(alias);
        let column = |name: &&str| Column { table: alias.clone(), name: name.to_lowercase(), expression: reference(&[&alias, name]) };
        let columns = self.events.iter().map(column).collect();
        let is_plain = is_empty(&table["column_name_alias"]);
        is_plain.then(|| Relation { from, columns, events: Some(alias.clone()), is_alone: true, is_raw: true, conditions: Vec::new() })
    }

    /// A table that does not read `events`.
    fn other(&self, table: &Value) -> Option<Relation> {
        let alias = [&table["alias"], &table["table_name"]].into_iter().find_map(|name| lower(name).filter(|name| !name.is_empty()));
        let alias = alias.unwrap_or_default();
        let column = |name: String| {
            let path = if alias.is_empty() { vec![name.as_str()] } else { vec![alias.as_str(), &name] };
            Column { table: alias.clone(), name: name.to_lowercase(), expression: reference(&path) }
        };
        let columns = (self.names_of)(table)?.into_iter().map(column).collect();
        Some(Relation { from: table.clone(), events: None, is_alone: false, is_raw: true, conditions: Vec::new(), columns })
    }

    /// A `SELECT` as a table: what it makes is of this stage.
    fn projected(&mut self, relation: Relation, table: &Value, name: &str) -> Option<Relation> {
        let mut relation = renamed(relation, &table["column_name_alias"])?;
        let alias = lower(&table["alias"]).filter(|alias| !alias.is_empty()).unwrap_or_else(|| name.to_owned());
        for column in &mut relation.columns {
            column.table.clone_from(&alias);
            if !matches!(column.expression["class"].as_str(), Some("COLUMN_REF" | "CONSTANT")) && column.expression[COLUMN].is_null() {
                column.expression[COLUMN] = json!(self.pool.len());
                self.pool.push((self.stages.len(), column.expression.clone()));
            }
        }
        Some(relation)
    }

    fn join(&mut self, table: &'a Value) -> Option<Relation> {
        let is_list = table["right"]["type"] == "TABLE_FUNCTION";
        let (left, right) = (self.from(&table["left"])?, if is_list { None } else { Some(self.from(&table["right"])?) });
        let kind = (table["join_type"].as_str()?, table["ref_type"].as_str()?);
        let Some(right) = right else { return self.lateral(left, table, kind) };
        let (is_left, mut events, other) = match (left.events.is_some(), right.events.is_some()) {
            (true, false) if matches!(kind, ("INNER" | "LEFT" | "SEMI" | "ANTI", "REGULAR" | "CROSS")) => (true, left, right),
            (false, true) if matches!(kind, ("INNER" | "RIGHT", "REGULAR" | "CROSS")) => (false, right, left),
            _ => return None,
        };
        let visible = Relation {
            columns: events.columns.iter().chain(&other.columns).cloned().collect(),
            from: Value::Null,
            events: None,
            is_alone: false,
            is_raw: events.is_raw && other.is_raw,
            conditions: Vec::new(),
        };
        let mut condition = Value::Null;
        if !table["condition"].is_null() {
            condition = resolve(&table["condition"], &visible, &mut Names::default())?;
        }
        for name in table["using_columns"].as_array().into_iter().flatten() {
            let side = |relation: &Relation| {
                Some(relation.columns.iter().find(|column| Some(&column.name) == lower(name).as_ref())?.expression.clone())
            };
            condition = both(
                condition,
                json!({
                    "class": "COMPARISON", "type": "COMPARE_EQUAL", "alias": "", "left": side(&events)?, "right": side(&other)?,
                }),
            );
        }
        // What is asked of events alone is a condition like those of a `WHERE`, unless a record without a partner stays. Of several others DuckDB may
        // leave out what one of them has decided, in any order.
        let is_pushed = matches!(kind.0, "INNER" | "SEMI");
        let (mut items, mut others) = (Vec::new(), 0);
        for part in conditions(&condition) {
            let sides = [&part["left"], &part["right"]].map(|side| read_by(side, &other.columns));
            let is_of_two_sides =
                part["class"] == "COMPARISON" && matches!(sides, [(true, false), (false, true)] | [(false, true), (true, false)]);
            if is_pushed && read_by(part, &other.columns) == (true, false) {
                events.conditions.push(part.clone());
                continue;
            }
            others += 1;
            if is_of_two_sides {
                items.extend([part["left"].clone(), part["right"].clone()]);
            }
        }
        let mut from = table.clone();
        from["using_columns"] = json!([]);
        from["condition"] = condition;
        let (left, right) = if is_left { ("left", "right") } else { ("right", "left") };
        (from[left], from[right]) = (events.from.clone(), other.from);
        self.grow(&mut events, from, items, others <= 1);
        events.is_alone = false;
        if !matches!(kind.0, "SEMI" | "ANTI") {
            events.is_raw &= other.is_raw;
            events.columns.extend(other.columns);
        }
        Some(events)
    }

    /// `FROM …, unnest(list)`.
    fn lateral(&mut self, mut relation: Relation, table: &Value, kind: (&str, &str)) -> Option<Relation> {
        let (function, is_plain) = (&table["right"]["function"], table["condition"].is_null() || table["condition"]["class"] == "CONSTANT");
        let arguments = function["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [argument] = arguments else { return None };
        let fits =
            function["function_name"] == "unnest" && argument["name"] == "" && table["right"]["with_ordinality"] == "WITHOUT_ORDINALITY";
        if relation.events.is_none() || !fits || !is_plain || !matches!(kind, ("INNER" | "LEFT", "REGULAR" | "CROSS")) {
            return None;
        }
        let list = resolve(&argument["expression"], &relation, &mut Names::default())?;
        let mut from = table.clone();
        from["left"] = relation.from.clone();
        from["right"]["function"]["arguments"][0]["expression"] = list.clone();
        let alias = lower(&table["right"]["alias"]).filter(|alias| !alias.is_empty()).unwrap_or_else(|| "unnest".to_owned());
        let name = lower(&table["right"]["column_name_alias"][0]).unwrap_or_else(|| "unnest".to_owned());
        self.grow(&mut relation, from, vec![list], true);
        relation.is_alone = false;
        relation.columns.push(Column { expression: reference(&[&alias, &name]), table: alias, name });
        Some(relation)
    }

    /// `SELECT …, unnest(list)`.
    fn unnest(&mut self, relation: &mut Relation, lists: Vec<Value>) -> Option<()> {
        let alias = relation.events.clone().filter(|_| relation.is_alone)?;
        let mut list = vec![json!({
            "class": "STAR", "type": "STAR", "alias": "", "relation_name": "", "exclude_list": [], "replace_list": [], "columns": false,
            "expr": null, "qualified_exclude_list": [], "rename_list": [],
        })];
        list.extend(lists.iter().enumerate().map(|(at, call)| {
            let mut call = call.clone();
            call["alias"] = json!(element(at));
            call
        }));
        let node = json!({
            "type": "SELECT_NODE", "modifiers": [], "cte_map": { "map": [] }, "select_list": list, "from_table": relation.from.clone(),
            "where_clause": null, "group_expressions": [], "group_sets": [], "aggregate_handling": "STANDARD_HANDLING", "having": null,
            "sample": null, "qualify": null,
        });
        let from = json!({
            "type": "SUBQUERY", "alias": alias, "sample": null, "subquery": { "node": node, "named_param_map": [] }, "column_name_alias": [],
            UNNESTED: true,
        });
        // Nothing that is unnested already may have the name.
        if relation.from[UNNESTED] == json!(true) {
            return None;
        }
        let items = lists.iter().map(|call| call["arguments"][0]["expression"].clone()).collect();
        self.grow(relation, from, items, true);
        Some(())
    }

    fn grow(&mut self, relation: &mut Relation, from: Value, items: Vec<Value>, is_known: bool) {
        let before = std::mem::replace(&mut relation.from, from);
        self.stages.push(Stage { from: before, conditions: Vec::new(), own: relation.conditions.len(), items, is_known });
    }

    /// Adds each projected column that is read to the expressions of its stage, unless it stands among them.
    fn add_columns_that_are_read(&mut self) {
        let mut read = std::mem::take(&mut self.read);
        for stage in &self.stages {
            stage.items.iter().chain(&stage.conditions).for_each(|expression| collect_columns(expression, &mut read));
        }
        for column in read {
            let Some((stage, expression)) = usize::try_from(column).ok().and_then(|column| self.pool.get(column)) else { continue };
            let stage = &mut self.stages[*stage];
            if !stage.items.iter().any(|item| item[COLUMN] == json!(column)) {
                stage.items.push(expression.clone());
            }
        }
    }

    fn reads_events(&self, value: &Value) -> bool {
        let of_cte = |name: &str| self.ctes.iter().any(|(cte, definition)| cte == name && self.reads_events(&definition["query_node"]));
        match value {
            Value::Object(members) => {
                let name = (value["type"] == "BASE_TABLE").then(|| lower(&value["table_name"])).flatten();
                is_events(value) || name.is_some_and(|name| of_cte(&name)) || members.values().any(|member| self.reads_events(member))
            }
            Value::Array(elements) => elements.iter().any(|element| self.reads_events(element)),
            _ => false,
        }
    }
}

/// Puts a column in the place of each list that is unnested, and adds the calls.
fn take_lists(expression: &mut Value, events: &str, lists: &mut Vec<Value>) {
    match expression {
        Value::Object(_) if expression["class"] == "FUNCTION" && expression["function_name"] == "unnest" => {
            let mut call = expression.clone();
            call["alias"] = json!("");
            let at = lists.iter().position(|known| *known == call).unwrap_or(lists.len());
            if at == lists.len() {
                lists.push(call);
            }
            *expression = reference(&[events, &element(at)]);
        }
        Value::Object(members) => members.values_mut().for_each(|member| take_lists(member, events, lists)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| take_lists(element, events, lists)),
        _ => {}
    }
}

fn element(at: usize) -> String {
    format!("pintail_element_{at}")
}

/// Returns whether an expression reads other columns than these, and whether it reads these: a subquery may read any.
fn read_by(expression: &Value, these: &[Column]) -> (bool, bool) {
    let of_all = |parts: &mut dyn Iterator<Item = &Value>| {
        parts.map(|part| read_by(part, these)).fold((false, false), |all, part| (all.0 | part.0, all.1 | part.1))
    };
    match expression {
        Value::Object(_) if expression["class"] == "SUBQUERY" => (true, true),
        Value::Object(_) if expression["class"] == "COLUMN_REF" => {
            let is_one = these.iter().any(|column| column.expression["column_names"] == expression["column_names"]);
            (!is_one, is_one)
        }
        Value::Object(members) => of_all(&mut members.values()),
        Value::Array(elements) => of_all(&mut elements.iter()),
        _ => (false, false),
    }
}

fn collect_columns(value: &Value, columns: &mut BTreeSet<u64>) {
    match value {
        Value::Object(members) => {
            columns.extend(value[COLUMN].as_u64());
            members.values().for_each(|member| collect_columns(member, columns));
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect_columns(element, columns)),
        _ => {}
    }
}

fn both(left: Value, right: Value) -> Value {
    match left {
        Value::Null => right,
        left => json!({ "class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "children": [left, right] }),
    }
}

/// Returns whether the modifiers of a `SELECT` do no more than order its rows by columns.
fn only_orders(modifiers: &Value) -> bool {
    modifiers.as_array().map(Vec::as_slice).unwrap_or_default().iter().all(|modifier| {
        let orders = modifier["orders"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_column = |order: &Value| matches!(order["expression"]["class"].as_str(), Some("COLUMN_REF" | "CONSTANT"));
        modifier["type"] == "ORDER_MODIFIER" && orders.iter().all(is_column)
    })
}
