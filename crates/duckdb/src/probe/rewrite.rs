//! Rewriting an expression of the SQL into forms that tell on which records it fails, and do not fail themselves.
//!
//! Owns: the forms, and which parts of an expression are always evaluated.
//! Does not own: which expressions are looked at, the queries around the forms (see `probe`), what else stands in an expression (see
//! `tree`), which can fail (see `faults`).
//!
//! DuckDB itself writes an expression as SQL again.

use serde_json::{Value, json};

use super::arithmetic;
use super::faults::{body, body_mut, can_fail, is_nested, is_strptime, makes_date, maps};
use super::flat::{self, Computed};
use super::tree::is_events;
use crate::session::Session;
use crate::sql::{collect_texts, literal};

/// What `error(…)` is replaced by: `TRY` takes no volatile function, which that is, but fails on the cast just so.
const ERROR: &str = "SELECT CAST(CAST('x' || pintail_argument AS INTEGER) AS \"NULL\")";
/// Stands for the argument of such a form.
const ARGUMENT: &str = "pintail_argument";
/// Stands for a condition that is put in as text.
const CONDITION: &str = "pintail_condition";
/// A cast that gives NULL where it fails.
const TRY_CAST: &str = "SELECT TRY_CAST(pintail_argument AS INTEGER)";
/// What gives the same as `make_date`, and NULL where that fails.
const MAKE_DATE: &str = "SELECT TRY_CAST(TRY_CAST(pintail_year AS BIGINT) || '-' || TRY_CAST(pintail_month AS BIGINT) || '-' || TRY_CAST(pintail_day AS BIGINT) AS DATE)";

/// The forms of an expression, as SQL.
#[derive(Debug)]
pub(super) struct Forms {
    /// The expression. What it calls is what was written, but for `error`.
    pub plain: String,
    /// The expression with casts that give NULL where they would fail: the same where none fails.
    pub loose: String,
    /// Whether it may fail, computed by vectors as far as can be.
    pub narrow: String,
    /// Whether it fails.
    pub confirm: String,
    /// Whether anything in it can fail.
    pub can_fail: bool,
}

/// Rewrites expressions by means of a session.
pub(super) struct Rewriter<'s> {
    session: &'s Session,
    /// The expression that always fails, with a column where the text stands.
    error: Value,
    /// A cast to be filled in.
    try_cast: Value,
    /// A date to be filled in.
    make_date: Value,
}

impl<'s> Rewriter<'s> {
    /// Prepares for a session; `None` if DuckDB does not write its tree as expected.
    pub(super) fn new(session: &'s Session) -> Option<Self> {
        let item = |sql| {
            let tree = collect_texts(session.connection(), &format!("SELECT json_serialize_sql({})::VARCHAR", literal(sql))).ok()?;
            let mut tree: Value = serde_json::from_str(tree.first()?.first()?).ok()?;
            Some(tree["statements"][0]["node"]["select_list"][0].take())
        };
        Some(Self { session, error: item(ERROR)?, try_cast: item(TRY_CAST)?, make_date: item(MAKE_DATE)? })
    }

    /// Returns the forms of an expression that stands in a `SELECT` with this `FROM`; `None` if DuckDB cannot write it as SQL.
    pub(super) fn forms(&self, expression: &Value, from: &str) -> Option<Forms> {
        let mut plain = expression.clone();
        self.replace_errors(&mut plain);
        plain["alias"] = json!("");
        arithmetic::note_types(self.session, &mut plain, from, |part| self.sql(part));
        let mut casts = Vec::new();
        let loose = self.loosen(&plain, &mut casts);
        let mut checks = self.checks(&casts)?;
        let (plain_sql, loose_sql) = (self.sql(&plain)?, self.sql(&loose)?);
        if can_fail(&loose) {
            checks.push(fails(&loose_sql));
        }
        if checks.is_empty() {
            checks.push("false".to_owned());
        }
        Some(Forms {
            narrow: format!("({})", checks.join(" OR ")),
            confirm: match self.surely_fails(&plain)? {
                Some(surely) => format!("(CASE WHEN coalesce(TRY({surely}), false) THEN true ELSE {} END)", fails(&plain_sql)),
                None => fails(&plain_sql),
            },
            can_fail: can_fail(&plain),
            plain: plain_sql,
            loose: loose_sql,
        })
    }

    /// Returns the conditions that hold where one of these fails.
    fn checks(&self, fallible: &[Fallible]) -> Option<Vec<String>> {
        fallible.iter().map(|one| self.check(one)).collect()
    }

    fn check(&self, fallible: &Fallible) -> Option<String> {
        let (check, is_safe) = match fallible {
            Fallible::Cast { cast, operands } => (self.gives_null(cast, operands)?, operands.iter().all(|operand| !can_fail(operand))),
            Fallible::Case { branches, otherwise } => {
                let mut check = "CASE".to_owned();
                for Branch { when, of_when, of_then } in branches {
                    if !of_when.is_empty() {
                        check += &format!(" WHEN {} THEN true", self.any(of_when)?);
                    }
                    check += &format!(" WHEN ({})::BOOLEAN THEN {}", self.sql(when)?, self.any(of_then)?);
                }
                check += &format!(" ELSE {} END", self.any(otherwise)?);
                (check, branches.iter().all(|branch| !can_fail(&branch.when)))
            }
            Fallible::Elements { call, of_one } => (self.of_any(call, &self.any(of_one)?)?, true),
        };
        Some(if is_safe { format!("({check})") } else { format!("coalesce(TRY({check}), true)") })
    }

    /// Returns the condition that holds where a form gives NULL for operands of which none is.
    fn gives_null(&self, form: &Value, operands: &[Value]) -> Option<String> {
        let given = operands.iter().map(|operand| Some(format!("({}) IS NOT NULL", self.sql(operand)?))).collect::<Option<Vec<_>>>()?;
        Some(format!("({}) IS NULL AND {}", self.sql(form)?, given.join(" AND ")))
    }

    /// Returns the condition that one of an element holds for any element that a function maps.
    fn of_any(&self, call: &Value, condition: &str) -> Option<String> {
        let mut call = call.clone();
        call["alias"] = json!("");
        *body_mut(&mut call) = json!({ "class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [CONDITION] });
        let call = self.sql(&call)?;
        // The name stands once, or it is one of the user's.
        (call.matches(CONDITION).count() == 1).then(|| format!("coalesce(list_bool_or({}), false)", call.replace(CONDITION, condition)))
    }

    /// Returns a condition that holds only where an expression fails, and does not fail itself for that: to catch an error takes twenty
    /// microseconds. It looks at what makes the value of the expression itself: other parts DuckDB may find it need not compute. That is
    /// arithmetic of integers, casts of them and of texts (those of other types give NULL for more than failures), dates, and what those stand in.
    #[expect(clippy::option_option, reason = "no condition is no fault")]
    fn surely_fails(&self, expression: &Value) -> Option<Option<String>> {
        match expression["class"].as_str() {
            Some("CAST") if expression["try_cast"] == json!(false) => {
                let cast = self.loosen(expression, &mut Vec::new());
                let (sql, operand) = (self.sql(&cast)?, self.sql(&cast["child"])?);
                let is_of_text = if arithmetic::is_integer_cast(expression) { "" } else { &format!("typeof({operand}) = 'VARCHAR' AND ") };
                let here = format!("({is_of_text}({operand}) IS NOT NULL AND ({sql}) IS NULL)");
                let within = self.surely_fails(&expression["child"])?;
                Some(Some(within.map_or(here.clone(), |within| format!("({here} OR {within})"))))
            }
            Some("FUNCTION") if arithmetic::types(expression).is_some() => {
                let mut leaves = Vec::new();
                let cast = self.widen(expression, &mut leaves, &mut Vec::new())?;
                let (leaves, operands): (Vec<_>, Vec<_>) = leaves.into_iter().unzip();
                let mut any = vec![format!("({})", self.gives_null(&cast, &operands)?)];
                for leaf in leaves {
                    any.extend(self.surely_fails(leaf)?);
                }
                Some(Some(format!("({})", any.join(" OR "))))
            }
            Some("FUNCTION") if is_strptime(expression) || makes_date(expression) => {
                let mut casts = Vec::new();
                self.loosen(expression, &mut casts);
                let Some(Fallible::Cast { cast, operands }) = casts.pop() else { return Some(None) };
                Some(Some(format!("({})", self.gives_null(&cast, &operands)?)))
            }
            Some("FUNCTION") if maps(expression) => {
                let call = self.loosen(expression, &mut Vec::new());
                match self.surely_fails(body(expression))? {
                    Some(of_one) if !can_fail(&call) => Some(Some(self.of_any(&call, &of_one)?)),
                    _ => Some(None),
                }
            }
            // Of other sides DuckDB may know what the comparison gives without computing both, or compute it in another way.
            Some("COMPARISON") if arithmetic::compares_one_type(expression) => {
                let sides = [&expression["left"], &expression["right"]];
                let is_plain = |of: &Value| matches!(of["class"].as_str(), Some("COLUMN_REF" | "CONSTANT"));
                if !sides.iter().all(|side| is_plain(side) || (side["class"] == "CAST" && is_plain(&side["child"]))) {
                    return Some(None);
                }
                let of_text = sides.into_iter().filter(|side| side["class"] == "CAST" && !arithmetic::is_integer_cast(side));
                let any = of_text.map(|side| self.surely_fails(side)).collect::<Option<Vec<_>>>()?;
                let any: Vec<String> = any.into_iter().flatten().collect();
                Some((!any.is_empty()).then(|| format!("({})", any.join(" OR "))))
            }
            // One of the others may decide it before that is computed.
            Some("CONJUNCTION") => {
                let is_or = expression["type"] == "CONJUNCTION_OR";
                let (mut any, mut undecided) = (Vec::new(), String::new());
                for child in expression["children"].as_array()? {
                    let loose = self.loosen(child, &mut Vec::new());
                    if can_fail(&loose) {
                        return Some(None);
                    }
                    let holds = format!("coalesce(({})::BOOLEAN, false)", self.sql(&loose)?);
                    let fails = self.surely_fails(child)?;
                    undecided += &match &fails {
                        _ if is_or => format!(" AND NOT {holds}"),
                        Some(fails) => format!(" AND ({fails} OR {holds})"),
                        None => format!(" AND {holds}"),
                    };
                    any.extend(fails);
                }
                Some((!any.is_empty()).then(|| format!("(({}){undecided})", any.join(" OR "))))
            }
            Some("CASE") => {
                let (mut check, mut any) = ("(CASE".to_owned(), false);
                for branch in expression["case_checks"].as_array()? {
                    let mut of_when = Vec::new();
                    let when = self.loosen(&branch["when_expr"], &mut of_when);
                    if !of_when.is_empty() {
                        check += &format!(" WHEN {} THEN false", self.any(&of_when)?);
                    }
                    let then = self.surely_fails(&branch["then_expr"])?;
                    any |= then.is_some();
                    check += &format!(" WHEN ({})::BOOLEAN THEN {}", self.sql(&when)?, then.as_deref().unwrap_or("false"));
                }
                let otherwise = self.surely_fails(&expression["else_expr"])?;
                any |= otherwise.is_some();
                check += &format!(" ELSE {} END)", otherwise.as_deref().unwrap_or("false"));
                Some(any.then_some(check))
            }
            _ => Some(None),
        }
    }

    /// Returns the expression with casts that do not fail, in all that is evaluated whatever the record holds.
    fn loosen(&self, expression: &Value, casts: &mut Vec<Fallible>) -> Value {
        let mut loose = expression.clone();
        let is_lazy = matches!(expression["type"].as_str(), Some("OPERATOR_COALESCE" | "OPERATOR_TRY"));
        match expression["class"].as_str() {
            Some("CAST") => {
                loose["child"] = self.loosen(&expression["child"], casts);
                if expression["try_cast"] == json!(false) && !is_nested(&expression["type_expr"]) {
                    loose["try_cast"] = json!(true);
                    casts.push(Fallible::Cast { cast: loose.clone(), operands: vec![loose["child"].clone()] });
                }
            }
            Some("FUNCTION") if arithmetic::types(expression).is_some() => {
                let mut leaves = Vec::new();
                if let Some(cast) = self.widen(expression, &mut leaves, casts) {
                    casts.push(Fallible::Cast { cast: cast.clone(), operands: leaves.into_iter().map(|(_, loose)| loose).collect() });
                    loose = cast;
                }
            }
            Some("FUNCTION") if maps(expression) => {
                let list = &mut loose["arguments"][0]["expression"];
                *list = self.loosen(list, casts);
                let mut of_one = Vec::new();
                let one = self.loosen(body(expression), &mut of_one);
                // What may fail within it in another way is caught around the whole.
                if !of_one.is_empty() && !can_fail(&one) {
                    *body_mut(&mut loose) = one;
                    casts.push(Fallible::Elements { call: loose.clone(), of_one });
                }
            }
            Some("FUNCTION") => {
                let count = expression["arguments"].as_array().map_or(0, Vec::len);
                for argument in 0..count {
                    loose["arguments"][argument]["expression"] = self.loosen(&expression["arguments"][argument]["expression"], casts);
                }
                if makes_date(expression) {
                    let operands: Vec<Value> = (0..3).map(|argument| loose["arguments"][argument]["expression"].take()).collect();
                    loose = self.make_date.clone();
                    for (name, operand) in ["pintail_year", "pintail_month", "pintail_day"].into_iter().zip(&operands) {
                        put(&mut loose, name, operand);
                    }
                    casts.push(Fallible::Cast { cast: loose.clone(), operands });
                } else if is_strptime(expression) {
                    loose["function_name"] = json!("try_strptime");
                    loose["qualified_name"] = json!({ "path": ["try_strptime"] });
                    let operands = (0..2).map(|argument| loose["arguments"][argument]["expression"].clone()).collect();
                    casts.push(Fallible::Cast { cast: loose.clone(), operands });
                }
            }
            Some("CASE") => {
                let mut branches = Vec::new();
                for check in 0..expression["case_checks"].as_array().map_or(0, Vec::len) {
                    let (mut of_when, mut of_then) = (Vec::new(), Vec::new());
                    let when = self.loosen(&expression["case_checks"][check]["when_expr"], &mut of_when);
                    let then = self.loosen(&expression["case_checks"][check]["then_expr"], &mut of_then);
                    loose["case_checks"][check]["when_expr"] = when.clone();
                    loose["case_checks"][check]["then_expr"] = then;
                    branches.push(Branch { when, of_when, of_then });
                }
                let mut otherwise = Vec::new();
                loose["else_expr"] = self.loosen(&expression["else_expr"], &mut otherwise);
                let in_any = |branch: &Branch| !branch.of_when.is_empty() || !branch.of_then.is_empty();
                if branches.iter().any(in_any) || !otherwise.is_empty() {
                    casts.push(Fallible::Case { branches, otherwise });
                }
            }
            Some("COMPARISON") => ["left", "right"].iter().for_each(|side| loose[side] = self.loosen(&expression[side], casts)),
            Some("BETWEEN") => ["input", "lower", "upper"].iter().for_each(|part| loose[part] = self.loosen(&expression[part], casts)),
            Some("OPERATOR" | "CONJUNCTION") if !is_lazy => {
                for child in 0..expression["children"].as_array().map_or(0, Vec::len) {
                    loose["children"][child] = self.loosen(&expression["children"][child], casts);
                }
            }
            _ => {}
        }
        loose
    }

    /// Returns arithmetic of integers in its form that gives NULL where it overflows, with the operands of all that it consists of, as they
    /// are and loosened.
    fn widen<'e>(&self, expression: &'e Value, leaves: &mut Vec<(&'e Value, Value)>, casts: &mut Vec<Fallible>) -> Option<Value> {
        let (result, wide) = arithmetic::types(expression)?;
        let mut operand = |argument: usize| {
            let operand = &expression["arguments"][argument]["expression"];
            let loose = self.widen(operand, leaves, casts).unwrap_or_else(|| {
                let loose = self.loosen(operand, casts);
                leaves.push((operand, loose.clone()));
                loose
            });
            self.try_cast(&loose, wide)
        };
        let operands = [operand(0), operand(1)];
        Some(self.try_cast(&arithmetic::wide(expression, operands), result))
    }

    fn try_cast(&self, operand: &Value, to: &str) -> Value {
        let mut cast = self.try_cast.clone();
        put(&mut cast, ARGUMENT, operand);
        cast["type_expr"]["type_name"] = json!(to);
        cast["type_expr"]["qualified_name"] = json!({ "path": [to] });
        cast
    }

    fn any(&self, fallible: &[Fallible]) -> Option<String> {
        let checks = self.checks(fallible)?;
        Some(if checks.is_empty() { "false".to_owned() } else { format!("({})", checks.join(" OR ")) })
    }

    /// Returns a `FROM` clause that reads `view` as `events`.
    pub(super) fn from(&self, from: &Value, view: &str) -> Option<String> {
        let mut from = from.clone();
        rename(&mut from, view);
        let select = self.deserialize(
            json!([{ "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": { "kind": "INTEGER", "text": "1" } }]),
            from,
        )?;
        select.find("FROM").map(|start| select[start..].to_owned())
    }

    /// Returns a `FROM` with what it computes itself in a form that does not fail, as far as there is one.
    pub(super) fn loosen_from(&self, from: &Value) -> Value {
        let mut loose = from.clone();
        flat::each_computed(&mut loose, &mut |expression, computed| {
            *expression = self.loosen(expression, &mut Vec::new());
            // What a join compares must be seen by it, or it compares all with all.
            if matches!(computed, Computed::List) && can_fail(expression) {
                *expression = json!({ "class": "OPERATOR", "type": "OPERATOR_TRY", "alias": "", "children": [expression.take()] });
            }
        });
        loose
    }

    pub(super) fn sql(&self, expression: &Value) -> Option<String> {
        let select = self.deserialize(json!([expression]), json!({ "type": "EMPTY", "alias": "", "sample": null }))?;
        select.strip_prefix("SELECT ").map(str::to_owned)
    }

    fn deserialize(&self, list: Value, from: Value) -> Option<String> {
        let node = json!({
            "type": "SELECT_NODE", "modifiers": [], "cte_map": { "map": [] }, "select_list": list, "from_table": from,
            "where_clause": null, "group_expressions": [], "group_sets": [], "aggregate_handling": "STANDARD_HANDLING", "having": null,
            "sample": null, "qualify": null,
        });
        let tree = json!({ "error": false, "statements": [{ "node": node, "named_param_map": [] }] }).to_string();
        let written = collect_texts(self.session.connection(), &format!("SELECT json_deserialize_sql({}::JSON)", literal(&tree))).ok()?;
        written.into_iter().flatten().next()
    }

    fn replace_errors(&self, value: &mut Value) {
        match value {
            Value::Object(_) if value["class"] == "FUNCTION" && value["function_name"] == "error" => {
                let argument = value["arguments"][0]["expression"].take();
                let alias = value["alias"].take();
                *value = self.error.clone();
                put(value, ARGUMENT, &argument);
                value["alias"] = alias;
            }
            Value::Object(members) => members.values_mut().for_each(|member| self.replace_errors(member)),
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.replace_errors(element)),
            _ => {}
        }
    }
}

/// Returns the condition that holds where an expression fails. It asks for the hash, which each value has: whether a value is NULL, DuckDB may
/// know of its type and not evaluate it.
fn fails(expression: &str) -> String {
    format!("(TRY(hash({expression})) IS NULL)")
}

/// Puts an expression in the place of a column that is named so.
fn put(value: &mut Value, name: &str, expression: &Value) {
    match value {
        Value::Object(_) if value["column_names"] == json!([name]) => *value = expression.clone(),
        Value::Object(members) => members.values_mut().for_each(|member| put(member, name, expression)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| put(element, name, expression)),
        _ => {}
    }
}

fn rename(from: &mut Value, view: &str) {
    if from["type"] == "JOIN" {
        rename(&mut from["left"], view);
        rename(&mut from["right"], view);
    } else if from["type"] == "BASE_TABLE" && is_events(from) {
        if from["alias"] == "" {
            from["alias"] = from["table_name"].clone();
        }
        from["table_name"] = json!(view);
        from["schema_name"] = json!("");
        from["catalog_name"] = json!("");
        from["qualified_name"] = json!({ "path": [view] });
    } else if from["type"] == "SUBQUERY" {
        rename(&mut from["subquery"]["node"]["from_table"], view);
    }
}

/// A part of an expression that fails for some records, in its form that does not.
enum Fallible {
    /// A cast, or a function that is one, which gives NULL where it would fail, and what it gives NULL for anyhow.
    Cast { cast: Value, operands: Vec<Value> },
    /// A `CASE`: of its parts only some are evaluated.
    Case { branches: Vec<Branch>, otherwise: Vec<Fallible> },
    /// A function that maps the elements of a list, and what can fail for one of them.
    Elements { call: Value, of_one: Vec<Fallible> },
}

/// A branch of a `CASE`, and what can fail in its parts.
struct Branch {
    when: Value,
    of_when: Vec<Fallible>,
    of_then: Vec<Fallible>,
}
